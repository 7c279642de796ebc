"""What a defence is: it makes one update of many, of which some may be bad."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from nexus.federate.core.algorithm import Vectors

if TYPE_CHECKING:
    from nexus.federate.core.stack import Stack
    from nexus.federate.core.total import Array, Total


@dataclass(frozen=True, slots=True)
class Combined:
    """What came of it. `notes` says something of each client: how far it was trusted, say."""

    total: Total
    memory: dict[str, Array] = field(default_factory=dict)
    notes: dict[int, dict[str, float]] = field(default_factory=dict)


class Defence(Protocol):
    """Its options are the fields of the frozen dataclass that implements it."""

    def keeps(self, sends: dict[str, int], clients: int) -> dict[str, int]:
        """Name and length of every vector that the server keeps for it between rounds (zero at first)."""
        ...

    def combine(self, stack: Stack, memory: Vectors, seed: int) -> Combined:
        """One update of many. `seed` is this round's. Raises UsageError for too few updates."""
        ...
