"""What a dialect is, and what it makes of a document."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from nexus.launch.core.jobfile.tree import Fields


@dataclass(slots=True)
class Translation:
    """A native tree, and what the dialect has that Nexus does not do."""

    tree: Fields
    warnings: list[str] = field(default_factory=list)


class Dialect(Protocol):
    """One way to write a job file."""

    @property
    def marks(self) -> frozenset[str]:
        """Top-level keys by which a file of this dialect is known; `resources.KEY` is a key below."""
        ...

    def translate(self, trees: list[Fields], file: str) -> list[Translation]:
        """The same jobs in native words. Every key is honoured or named in a warning. Raises FileError."""
        ...
