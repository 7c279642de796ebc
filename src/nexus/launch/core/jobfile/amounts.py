"""Amounts as SkyPilot and dstack write them: a bare number is gigabytes, and `+` or `..` leave them open.

A GB said by people is anything from 10^9 to 2^30 bytes: what a machine must have at least is read as the smaller one
(a 24 GB card has 23.98 GiB, and is meant), what it may have at most as the larger.
"""

from __future__ import annotations

import re

from nexus.launch.core.jobfile.draft import Draft
from nexus.launch.core.jobfile.tree import Fields, Tree

_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(?:([kmgt])i?b?)?", re.IGNORECASE)
_COUNT = re.compile(r"\d{1,9}(?:\.\d{1,6})?")


def size(text: str) -> str | None:
    """`16` is `16GB..`, `16GB..80GB` is `16GB..80GiB`; None if it is no size."""
    low, dots, high = text.replace(" ", "").removesuffix("+").partition("..")
    ends = _end(low, "B"), _end(high, "iB")
    if None in ends or not (low or high):
        return None
    return f"{ends[0]}..{ends[1] if dots else ''}"


def count(text: str) -> str | None:
    """`4` and `4+` are `4..`, `4..8` is itself; None if it is no count."""
    low, _, high = text.replace(" ", "").removesuffix("+").partition("..")
    if not (low or high) or not all(_COUNT.fullmatch(end) for end in (low, high) if end):
        return None
    return f"{low}..{high}"


def first(text: str) -> float:
    """The number that an amount begins with; 0 if it begins with none."""
    match = _COUNT.match(text)
    return float(match[0]) if match else 0.0


def size_of(draft: Draft, tree: Tree, field: str) -> str:
    """A size as native files write it. Raises FileError."""
    found = size(_written(draft, tree, field))
    if found is None:
        raise draft.needs(tree, field, "a size", "Write 16GB, or a range such as 16GB..80GB.")
    return found


def count_of(draft: Draft, tree: Tree, field: str) -> str:
    """A count as native files write it. Raises FileError."""
    found = count(_written(draft, tree, field))
    if found is None:
        raise draft.needs(tree, field, "a number", "Write 4, or a range such as 4..8.")
    return found


def _written(draft: Draft, tree: Tree, field: str) -> str:
    """The text of an amount; a mapping of `min` and `max` as the range that it is."""
    if not isinstance(tree, Fields):
        return draft.text(tree, field)
    ends = draft.only(tree, field, ("min", "max"))
    return "..".join(draft.text(ends[end], f"{field}.{end}") if end in ends else "" for end in ("min", "max"))


def _end(text: str, suffix: str) -> str | None:
    if not text:
        return ""
    match = _SIZE.fullmatch(text)
    return f"{match[1]}{(match[2] or 'G').upper()}{suffix}" if match else None
