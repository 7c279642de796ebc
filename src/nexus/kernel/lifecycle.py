"""A life cycle is one literal table: state -> the states that may follow. The docs' diagrams come from it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Generic, TypeVar

from nexus.kernel.errors import ConflictError

S = TypeVar("S", bound=StrEnum)


class Lifecycle(Generic[S]):
    """Checks moves against a transition table."""

    def __init__(self, name: str, start: S, table: Mapping[S, tuple[S, ...]]) -> None:
        self.name = name
        self.start = start
        self.table = dict(table)

    def may(self, old: S, new: S) -> bool:
        """Whether `old` may become `new`; staying is always allowed (messages may come twice)."""
        return old == new or new in self.table[old]

    def move(self, old: S, new: S) -> S:
        """`new`, if the table allows it. Raises ConflictError."""
        if not self.may(old, new):
            raise ConflictError(f"a {self.name} that is {old} cannot become {new}", state=str(old), wanted=str(new))
        return new

    def is_final(self, state: S) -> bool:
        """Whether nothing follows `state`."""
        return not self.table[state]

    @property
    def final(self) -> tuple[S, ...]:
        """The states that nothing follows."""
        return tuple(state for state in self.table if self.is_final(state))

    @property
    def live(self) -> tuple[S, ...]:
        """The states that something follows."""
        return tuple(state for state in self.table if not self.is_final(state))

    def diagram(self) -> str:
        """The table as a Mermaid state diagram."""
        lines = ["stateDiagram-v2", f"    [*] --> {self.start}"]
        for old, following in self.table.items():
            lines += [f"    {old} --> {new}" for new in following] or [f"    {old} --> [*]"]
        return "\n".join(lines)
