"""Round robin: everybody once before anybody twice, in an order that is drawn anew for every turn of the wheel.

Sampling without replacement over epochs: Malinovsky et al., Federated Random Reshuffling with Compression and Variance
Reduction, 2022; what small federations of hospitals or banks expect.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from nexus.federate.core.seeds import derive
from nexus.federate.model import Round


@dataclass(frozen=True)
class RoundRobin:
    """A cohort that ends one turn begins the next."""

    def choose(self, seed: int, number: int, clients: int, size: int, past: Sequence[Round]) -> tuple[int, ...]:
        size = min(size, clients)
        turn, at = divmod((number - 1) * size, clients)
        order = _wheel(seed, turn, clients, size)
        if at + size > clients:
            order = order + _wheel(seed, turn + 1, clients, size)
        return tuple(sorted(order[at : at + size]))

    def most(self, clients: int, size: int) -> int:
        return size


def _wheel(seed: int, turn: int, clients: int, size: int) -> list[int]:
    """One turn: each half of the clients shuffled by itself, so that who ends one turn does not begin the next."""
    order = list(range(clients))
    random.Random(derive(seed, "wheel")).shuffle(order)  # noqa: S311 (a reproducible draw)
    half = clients // 2
    if size > half:
        return order  # a cohort is more than half of all: only the same order again gives everybody's turn in turn
    halves = (order[:half], order[half:])
    for at, one in enumerate(halves):
        random.Random(derive(seed, "wheel", turn, at)).shuffle(one)  # noqa: S311
    return [*halves[0], *halves[1]]
