"""A native job in the making, out of the tree of another dialect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nexus.kernel.errors import FileError
from nexus.launch.core.jobfile.problems import Problem, file_error, shown, unknown
from nexus.launch.core.jobfile.translation import Translation
from nexus.launch.core.jobfile.tree import Fields, Items, Scalar, Tree, value_of


class Draft:
    """What is taken from the dialect's tree is gone from it; every value put keeps the place where it stood."""

    def __init__(self, tree: Fields, file: str) -> None:
        self.tree = Fields(tree.place, dict(tree.entries), dict(tree.keys))
        self.file = file
        self.native = Fields(tree.place)
        self.resources = Fields(tree.place)
        self.env = Fields(tree.place)
        self.warnings: list[str] = []

    def take(self, key: str) -> Tree | None:
        return self.tree.entries.pop(key, None)

    def put(self, key: str, value: Any, source: Tree, into: Fields | None = None) -> None:
        target = self.native if into is None else into
        target.entries[key], target.keys[key] = native(value, source), source.place

    def set_env(self, name: str, value: str, source: Tree) -> None:
        self.put(name, value, source, self.env)

    def warn(self, source: Tree, message: str) -> None:
        self.warnings.append(f"{self.file}:{source.place.line}: {message}")

    def error(self, source: Tree, message: str, hint: str, field: str) -> FileError:
        return file_error([Problem(message, hint, source.place, field)], self.file)

    def listed(self, source: Tree, *values: dict[str, Any]) -> Items:
        return Items(source.place, [native(value, source) for value in values])

    def needs(self, source: Tree, field: str, what: str, hint: str = "") -> FileError:
        """The error that `field` is not what it must be."""
        return self.error(source, f"`{field}` needs {what}, not {shown(value_of(source))}", hint, field)

    def mapping(self, tree: Tree, field: str) -> Fields:
        """The tree, if it is a mapping; nothing is an empty one. Raises FileError."""
        if is_null(tree):
            return Fields(tree.place)
        if not isinstance(tree, Fields):
            raise self.needs(tree, field, "a mapping")
        return tree

    def only(self, tree: Tree, field: str, known: Iterable[str]) -> dict[str, Tree]:
        """The entries of a mapping that say something; a key that is not `known` is an error. Raises FileError."""
        said = self.mapping(tree, field)
        names = [name for name in known if not name.startswith("_")]
        for key in said.entries:
            if key not in known:
                message, hint = unknown(key, names)
                path = f"{field}.{key}" if field else key
                raise file_error([Problem(message, hint, said.keys[key], path)], self.file)
        return {key: entry for key, entry in said.entries.items() if not is_null(entry)}

    def text(self, tree: Tree, field: str) -> str:
        """A value as it was written. Raises FileError."""
        if not isinstance(tree, Scalar) or tree.value is None:
            raise self.needs(tree, field, "text")
        return tree.text

    def choice(self, tree: Tree, field: str, known: Mapping[str, Any]) -> Any:
        """What a word stands for. Raises FileError for one that is not known."""
        word = self.text(tree, field)
        if word not in known:
            _, hint = unknown(word, list(known))
            raise self.error(
                tree, f"`{field}` cannot be {word!r}", hint.replace("Known keys here", "It is one of"), field
            )
        return known[word]

    def unused(self, entries: Mapping[str, Tree], prefix: str, reasons: Mapping[str, str]) -> None:
        """Name in a warning each key that has a reason not to be used, unless it says no more than its default."""
        for key, reason in reasons.items():
            entry = entries.get(key)
            if entry is not None and value_of(entry) not in (None, False, "off", [], {}):
                self.warn(entry, f"{prefix}{key} is not used: {reason}")

    def done(self) -> Translation:
        """The native tree, with its variables and needs."""
        parts = {"env": self.env, "resources": self.resources}
        for key, part in parts.items():
            if part.entries:
                self.native.entries[key], self.native.keys[key] = part, part.place
        return Translation(self.native, self.warnings)


def native(value: Any, source: Tree) -> Tree:
    """A plain value as a tree that stands where `source` does."""
    if isinstance(value, Scalar | Items | Fields):
        return value
    if isinstance(value, dict):
        entries = {key: native(entry, source) for key, entry in value.items()}
        return Fields(source.place, entries, dict.fromkeys(entries, source.place))
    if isinstance(value, list):
        return Items(source.place, [native(item, source) for item in value])
    return Scalar("" if value is None else str(value), value, source.place)


def is_null(tree: Tree) -> bool:
    """Whether a key has nothing behind it."""
    return isinstance(tree, Scalar) and tree.value is None


def items_of(tree: Tree) -> list[Tree]:
    """A list's items, or the one thing that stands where several may."""
    return tree.items if isinstance(tree, Items) else [tree]
