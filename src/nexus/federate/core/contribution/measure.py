"""What a measure of contributions is: it says what each client of a round is worth to the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from nexus.federate.core.algorithm import Vector

if TYPE_CHECKING:
    from nexus.federate.core.defence import Scene
    from nexus.federate.core.stack import Stack
    from nexus.federate.model import Round

Play = Callable[[Vector], dict[str, float]]  # the scores of the model that these weights would make
NOTE = "contribution"


class Measure(Protocol):
    """Its options are the fields of the frozen dataclass that implements it."""

    def measure(self, stack: Stack, play: Play, scene: Scene) -> dict[int, dict[str, float]]:
        """Notes by client, of which `contribution` is in units of the score. Raises UsageError."""
        ...


def summed(rounds: Iterable[Round]) -> dict[int, float]:
    """Each client's contribution over all rounds; empty where none was measured."""
    shares: dict[int, float] = {}
    for record in rounds:
        for turn in record.turns:
            if NOTE in turn.notes:
                shares[turn.client] = shares.get(turn.client, 0.0) + turn.notes[NOTE]
    return shares
