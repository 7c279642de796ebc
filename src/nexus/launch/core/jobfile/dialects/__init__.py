"""The ways people write job files: one file each. A dialect turns its trees into native ones; values keep their places.

A file is in one dialect, unless a document in it is plainly in another, or says so (`dialect:`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from nexus.kernel.errors import FileError
from nexus.kernel.registry import Registry
from nexus.launch.core.jobfile.problems import unknown
from nexus.launch.core.jobfile.translation import Dialect, Translation
from nexus.launch.core.jobfile.tree import Fields, Scalar

DIALECTS: Registry[Dialect] = Registry(
    "nexus.job_dialects",
    {
        "nexus": "nexus.launch.core.jobfile.dialects.native:DIALECT",
        "fedml": "nexus.launch.core.jobfile.dialects.fedml:DIALECT",
        "skypilot": "nexus.launch.core.jobfile.dialects.skypilot:DIALECT",
        "dstack": "nexus.launch.core.jobfile.dialects.dstack:DIALECT",
    },
)


def translate(trees: Sequence[Fields], file: str) -> list[Translation]:
    """The jobs of a file in native words, documents of one dialect together. Raises FileError."""
    named = zip(detect(trees, file), trees, strict=True)
    found: list[Translation] = []
    for name, group in groupby(named, key=lambda pair: pair[0]):
        found += DIALECTS.get(name).translate([tree for _, tree in group], file)
    return found


def detect(trees: Sequence[Fields], file: str) -> list[str]:
    """The dialect of each document: what it says (`dialect:`), or whose keys it has most of.

    Of those that are even the whole file decides, then ours. Raises FileError if one is named that does not exist.
    """
    scores = [_score(tree) for tree in trees]
    whole = sum(scores, Counter[str]())

    def best(score: Counter[str]) -> str:
        return max(DIALECTS, key=lambda name: (score[name], whole[name], name == "nexus"))

    return [_said(tree, file) or best(score) for tree, score in zip(trees, scores, strict=True)]


def _score(tree: Fields) -> Counter[str]:
    resources = tree.entries.get("resources")
    keys = {
        *tree.entries,
        *(f"resources.{key}" for key in (resources.entries if isinstance(resources, Fields) else ())),
    }
    return Counter({name: len(DIALECTS.get(name).marks & keys) for name in DIALECTS})


def _said(tree: Fields, file: str) -> str:
    said = tree.entries.get("dialect")
    if said is None:
        return ""
    if isinstance(said, Scalar) and said.text in DIALECTS:
        return said.text
    _, hint = unknown(said.text if isinstance(said, Scalar) else "", DIALECTS.names())
    raise FileError(
        "this dialect is not known",
        hint=hint.replace("Known keys here", "It is one of"),
        file=file,
        line=said.place.line,
        column=said.place.column,
        field="dialect",
    )
