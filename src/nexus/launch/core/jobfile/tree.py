"""YAML text to trees that remember where everything stands. Built from events, so that no input can exhaust the stack.

Plain scalars are read by the core schema of YAML 1.2: `on` and `yes` are words, `0123` is the number 123. Limits: 1 MB
of text, 40 levels, 20,000 values with aliases expanded. Two equal keys are an error, not the last one's victory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from nexus.kernel.errors import FileError

MAX_TEXT_B = 1_000_000
MAX_DEPTH = 40
MAX_VALUES = 20_000

_INT = re.compile(r"[-+]?[0-9]{1,300}")
_HEX = re.compile(r"0x[0-9a-fA-F]{1,200}|0o[0-7]{1,200}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None} | {
    form: value for word, value in (("true", True), ("false", False)) for form in (word, word.title(), word.upper())
}
_TAG = "tag:yaml.org,2002:"
_TAGS = {
    yaml.ScalarEvent: tuple(_TAG + name for name in ("str", "int", "float", "bool", "null")),
    yaml.SequenceStartEvent: (_TAG + "seq",),
    yaml.MappingStartEvent: (_TAG + "map",),
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the text, both from 1, as editors count; or a `source` that is not the file, such as an option."""

    line: int
    column: int
    source: str = ""


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value: its text as written, and what it means."""

    text: str
    value: Any
    place: Place
    size: int = 1
    height: int = 0


@dataclass(slots=True)
class Items:
    """A list."""

    place: Place
    items: list[Tree] = field(default_factory=list)
    size: int = 1
    height: int = 0


@dataclass(slots=True)
class Fields:
    """A mapping. `keys` says where each key stands."""

    place: Place
    entries: dict[str, Tree] = field(default_factory=dict)
    keys: dict[str, Place] = field(default_factory=dict)
    size: int = 1
    height: int = 0


Tree = Scalar | Items | Fields


def value_of(tree: Tree, *, text: bool = False) -> Any:
    """The plain value of a tree. With `text`, scalars stay as they were written: `1.10` does not become `1.1`."""
    if isinstance(tree, Scalar):
        return tree.text if text else tree.value
    if isinstance(tree, Items):
        return [value_of(item, text=text) for item in tree.items]
    return {key: value_of(entry, text=text) for key, entry in tree.entries.items()}


def place_of(tree: Tree, path: Sequence[str | int], *, key: bool = False) -> Place:
    """Where the value at `path` stands, or the nearest thing that exists on the way; with `key`, its key."""
    place = tree.place
    for step in path:
        if isinstance(tree, Fields) and step in tree.entries:
            place, tree = tree.keys[str(step)], tree.entries[str(step)]
        elif isinstance(tree, Items) and isinstance(step, int) and step < len(tree.items):
            tree = tree.items[step]
            place = tree.place
        else:
            continue
        if not key:
            place = tree.place
    return place


def read_trees(text: str, file: str) -> list[Tree]:
    """One tree for each document of the text that is not empty. Raises FileError."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT_B:
        raise FileError(f"a job file has at most {MAX_TEXT_B} bytes", file=file, hint="Move data into the workspace.")
    try:
        trees = list(_Builder(file).documents(text))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = {"line": mark.line + 1, "column": mark.column + 1} if mark else {}
        words = " ".join(part for part in (error.context, error.problem) if part)
        raise FileError(f"this is not YAML: {words}", file=file, hint=_yaml_hint(words), **place) from error
    except (yaml.YAMLError, UnicodeError) as error:
        words = str(error).splitlines()[0]
        raise FileError(f"this is not YAML: {words}", file=file, hint="Save the file as UTF-8 text.") from error
    return [tree for tree in trees if not (isinstance(tree, Scalar) and tree.value is None)]


def _yaml_hint(words: str) -> str:
    if "cannot start any token" in words or "tab" in words:
        return "Indent with spaces; put text that begins with @, `, % or a tab into quotes."
    if "mapping values are not allowed" in words:
        return "Put text that contains `: ` into quotes, or give a nested key its own line."
    return "Check indentation and quotes on this line and the one above."


class _Builder:
    def __init__(self, file: str) -> None:
        self.file = file
        self.anchors: dict[str, Tree] = {}
        self.open: set[str] = set()

    def documents(self, text: str) -> Iterator[Tree]:
        events = yaml.parse(text, Loader=yaml.CSafeLoader)
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                self.anchors, self.open = {}, set()
                yield self.node(next(events), events, 0)

    def node(self, event: Any, events: Iterator[Any], depth: int) -> Tree:
        place = _place(event)
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event, depth)
        if depth > MAX_DEPTH:
            self.fail(place, f"lists and mappings are nested more than {MAX_DEPTH} deep", "Make the file flatter.")
        self.check_tag(event, place)
        if event.anchor:
            self.open.add(event.anchor)
            self.anchors.pop(event.anchor, None)
        tree: Tree
        if isinstance(event, yaml.ScalarEvent):
            tree = self.scalar(event, place)
        elif isinstance(event, yaml.SequenceStartEvent):
            tree = self.sequence(events, Items(place), depth)
        else:
            tree = self.mapping(events, Fields(place), depth)
        if event.anchor:
            self.open.discard(event.anchor)
            self.anchors[event.anchor] = tree
        return tree

    def alias(self, event: Any, depth: int) -> Tree:
        tree = self.anchors.get(event.anchor)
        if tree is None:
            inside = event.anchor in self.open
            what = "holds itself" if inside else "is not set above"
            self.fail(_place(event), f"the alias *{event.anchor} {what}", f"Set it first: &{event.anchor} VALUE.")
        if depth + tree.height > MAX_DEPTH:
            self.fail(_place(event), f"lists and mappings are nested more than {MAX_DEPTH} deep", "Flatten the file.")
        return tree

    def sequence(self, events: Iterator[Any], tree: Items, depth: int) -> Items:
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            item = self.node(event, events, depth + 1)
            tree.items.append(item)
            self.grow(tree, item)
        return tree

    def mapping(self, events: Iterator[Any], tree: Fields, depth: int) -> Fields:
        merged: list[Fields] = []
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            if not isinstance(event, yaml.ScalarEvent):
                self.fail(_place(event), "a key must be plain text", "Put text that begins with { [ * or & in quotes.")
            place, value = _place(event), self.node(next(events), events, depth + 1)
            self.grow(tree, value)
            if event.value == "<<" and event.style in {None, ""}:
                merged += self.merge(value)
            elif event.value in tree.entries:
                first = tree.keys[event.value]
                self.fail(place, f"the key {event.value!r} stands here twice", f"It is also on line {first.line}.")
            else:
                tree.entries[event.value], tree.keys[event.value] = value, place
        for other in merged:
            for key in [key for key in other.entries if key not in tree.entries]:
                tree.entries[key], tree.keys[key] = other.entries[key], other.keys[key]
        return tree

    def merge(self, value: Tree) -> list[Fields]:
        sources = value.items if isinstance(value, Items) else [value]
        found = [source for source in sources if isinstance(source, Fields)]
        if len(found) != len(sources):
            self.fail(value.place, "`<<` takes a mapping, or a list of mappings", "Write `<<: *NAME`.")
        return found

    def grow(self, tree: Items | Fields, child: Tree) -> None:
        tree.size += child.size
        tree.height = max(tree.height, child.height + 1)
        if tree.size > MAX_VALUES:
            self.fail(child.place, f"the file has more than {MAX_VALUES} values", "Move data into the workspace.")

    def check_tag(self, event: Any, place: Place) -> None:
        known = _TAGS.get(type(event), ())
        if event.tag not in {None, "!", *known}:
            shown = event.tag.replace(_TAG, "!!", 1)
            self.fail(place, f"the tag {shown} means nothing here", "Remove it: only plain values are read.")

    def scalar(self, event: Any, place: Place) -> Scalar:
        text: str = event.value
        plain = event.implicit[0] if event.tag in {None, "!"} else event.tag != _TAG + "str"
        return Scalar(text, plain_value(text) if plain else text, place)

    def fail(self, place: Place, message: str, hint: str) -> NoReturn:
        raise FileError(message, hint=hint, file=self.file, line=place.line, column=place.column)


def _place(event: Any) -> Place:
    return Place(event.start_mark.line + 1, event.start_mark.column + 1)


def plain_value(text: str) -> Any:
    """What unquoted text means: null, a boolean, a number, or itself."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _HEX.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
