"""Available: who did not answer is left alone for a while, twice as long each time.

A client that was dropped k times in a row waits 2^(k-1) rounds (64 at most) before it may be chosen again; one answer
makes it as good as any. A cohort is filled up with waiting ones, those first whose wait ends first, when there are too
few others.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from nexus.federate.core.samplers.seen import silent_since
from nexus.federate.core.seeds import derive
from nexus.federate.model import Round
from nexus.kernel.errors import UsageError

_DOUBLINGS = 6


@dataclass(frozen=True)
class Available:
    """`patience` drops in a row are forgiven before the first wait."""

    patience: int = 0

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if self.patience < 0:
            raise UsageError("sampler.patience must be 0 or more", hint="0: wait from the first drop on.")

    def choose(self, seed: int, number: int, clients: int, size: int, past: Sequence[Round]) -> tuple[int, ...]:
        free_at = {
            client: last + 1 + 2 ** min(drops - self.patience - 1, _DOUBLINGS)
            for client, (drops, last) in silent_since(past).items()
            if drops > self.patience
        }
        order = list(range(clients))
        random.Random(derive(seed, "available", number)).shuffle(order)  # noqa: S311 (a reproducible draw)
        order.sort(key=lambda client: max(free_at.get(client, 0), number))
        return tuple(sorted(order[:size]))

    def most(self, clients: int, size: int) -> int:
        return size
