"""Which files of a folder belong to a job: all but what .gitignore and .nexusignore name, by git's rules."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

# Never sent: history, environments and caches of a machine.
ALWAYS = (".git/", ".hg/", ".svn/", ".nexus/", ".venv/", "__pycache__/", "*.pyc", ".ipynb_checkpoints/", ".DS_Store")
IGNORE_FILES = (".gitignore", ".nexusignore")  # the later wins, so .nexusignore may bring back with `!`


def workspace_files(folder: Path) -> list[str]:
    """The paths to pack, sorted; an empty folder has a `/` at its end. Ignore files count in any folder, as in git."""
    root = Path(os.path.realpath(folder))
    return sorted(_walk(root, "", [("", _spec(list(ALWAYS))), *_specs_in(root, "")]))


def _walk(root: Path, below: str, specs: list[tuple[str, GitIgnoreSpec]]) -> Iterator[str]:
    empty = True
    for entry in sorted(os.scandir(root / below), key=lambda entry: entry.name):
        empty = False
        path = below + entry.name
        is_folder = entry.is_dir(follow_symlinks=False)
        if _ignored(path + "/" if is_folder else path, specs):
            continue
        if is_folder:
            yield from _walk(root, path + "/", [*specs, *_specs_in(root, path + "/")])
        else:
            yield path
    if empty and below:
        yield below


def _ignored(path: str, specs: list[tuple[str, GitIgnoreSpec]]) -> bool:
    ignored = False
    for base, spec in specs:
        verdict = spec.check_file(path.removeprefix(base)).include
        ignored = ignored if verdict is None else verdict
    return ignored


def _specs_in(root: Path, below: str) -> list[tuple[str, GitIgnoreSpec]]:
    lines: list[str] = []
    for name in IGNORE_FILES:
        path = root / below / name
        if path.is_file():
            lines += path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [(below, _spec(lines))] if lines else []


def _spec(lines: list[str]) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines(lines)
