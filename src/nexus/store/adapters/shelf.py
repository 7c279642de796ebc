"""Templates on disk: folders with a job.yaml and a template.yaml. The shipped ones are the repository's examples."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from nexus.kernel.errors import FileError, NotFoundError
from nexus.launch.core.jobfile.tree import Fields, read_trees, value_of
from nexus.store.core.reading import read_template
from nexus.store.model import Template
from nexus.store.templates import TEMPLATES

_PACKAGE = Path(__file__).parents[1]


def examples() -> Path:
    """The folder of the shipped templates: inside the wheel, or at the root of a working copy."""
    shipped = _PACKAGE / "examples"
    return shipped if shipped.is_dir() else _PACKAGE.parents[2] / "examples"


class FolderShelf:
    """Implements `store.ports.Shelf` on a folder of folders."""

    def __init__(self, root: Path | None = None, names: Sequence[str] = TEMPLATES) -> None:
        self._root = root or examples()
        self._names = list(names)
        self._read = cache(self._load)  # what is shipped does not change while a server runs

    def names(self) -> list[str]:
        return list(self._names)

    def get(self, name: str) -> Template:
        if name not in self._names:
            near = difflib.get_close_matches(name, self._names, n=1)
            hint = f"Did you mean {near[0]}? " if near else ""
            raise NotFoundError(f"no such template: {name[:80]}", hint=f"{hint}`nexus store list` shows them.")
        return self._read(name)

    def _load(self, name: str) -> Template:
        folder = self._root / name
        try:
            text = (folder / "template.yaml").read_text()
            job = (folder / "job.yaml").read_text()
        except OSError as error:
            raise FileError(f"the template {name} is not whole: {error}", file=str(folder)) from error
        trees = read_trees(text, f"{name}/template.yaml")
        if len(trees) != 1 or not isinstance(trees[0], Fields):
            raise FileError("a template is a mapping of keys to values", file=f"{name}/template.yaml", line=1)
        return read_template(name, value_of(trees[0]), folder=str(folder), job=job)
