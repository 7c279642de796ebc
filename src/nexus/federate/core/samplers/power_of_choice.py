"""Power of choice: of `candidates` times the cohort, drawn uniformly, those with the highest loss.

Cho et al., Towards Understanding Biased Client Selection in Federated Learning, 2022, the variant rpow-d: losses are
those that the clients told last, so that asking costs nothing. Clients that told none come first.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from nexus.federate.core.samplers.seen import losses
from nexus.federate.core.seeds import derive
from nexus.federate.model import Round
from nexus.kernel.errors import UsageError


@dataclass(frozen=True)
class PowerOfChoice:
    """`candidates` 1 is uniform. `memory` rounds back losses are looked for."""

    candidates: float = 2.0
    memory: int = 100

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if not self.candidates >= 1:
            raise UsageError("sampler.candidates must be 1 or more", hint="2: twice the cohort is looked at.")
        if self.memory < 1:
            raise UsageError("sampler.memory must be 1 or more", hint="100 rounds.")

    def choose(self, seed: int, number: int, clients: int, size: int, past: Sequence[Round]) -> tuple[int, ...]:
        known = losses(past, self.memory)
        dice = random.Random(derive(seed, "power", number))  # noqa: S311 (a reproducible draw)
        candidates = dice.sample(range(clients), min(clients, max(size, round(size * self.candidates))))
        ranked = sorted(candidates, key=lambda client: -known.get(client, float("inf")))
        return tuple(sorted(ranked[:size]))

    def most(self, clients: int, size: int) -> int:
        return size
