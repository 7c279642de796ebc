"""The ways people write job files. A dialect turns its tree into the native tree; every value keeps its place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from nexus.kernel.errors import FileError
from nexus.kernel.registry import Registry
from nexus.launch.core.jobfile.problems import unknown
from nexus.launch.core.jobfile.tree import Fields, Scalar


@dataclass(slots=True)
class Translation:
    """A native tree, and what the dialect has that Nexus does not do."""

    tree: Fields
    warnings: list[str] = field(default_factory=list)


class Dialect(Protocol):
    """One way to write a job file."""

    @property
    def marks(self) -> frozenset[str]:
        """Top-level keys by which a file of this dialect is known."""
        ...

    def translate(self, tree: Fields, file: str) -> Translation:
        """The same job in native words. Every key is honoured or named in a warning. Raises FileError."""
        ...


DIALECTS: Registry[Dialect] = Registry(
    "nexus.job_dialects",
    {
        "nexus": "nexus.launch.core.jobfile.native:DIALECT",
        "fedml": "nexus.launch.core.jobfile.fedml:DIALECT",
    },
)


def detect(tree: Fields, file: str) -> str:
    """The dialect that a file says it is in (`dialect:`), or whose keys it has most of; ours when even.

    Raises FileError if it names one that does not exist.
    """
    said = tree.entries.get("dialect")
    if said is None:
        return max(DIALECTS, key=lambda name: (len(DIALECTS.get(name).marks & tree.entries.keys()), name == "nexus"))
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
