"""Poisson: every client by its own toss, with the chance `cohort` / clients; a round has more or fewer than `cohort`.

The sampling that the accounting of differential privacy is sharpest for: Abadi et al., Deep Learning with Differential
Privacy, 2016, section 3.1 ("lots"). A round that nobody was drawn for is drawn again, which happens once in e^cohort.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import ClassVar

from nexus.federate.core.draws import Sampling
from nexus.federate.core.seeds import derive
from nexus.federate.model import Round


@dataclass(frozen=True)
class Poisson:
    """Independent draws."""

    sampling: ClassVar[Sampling] = Sampling.POISSON

    def choose(self, seed: int, number: int, clients: int, size: int, past: Sequence[Round]) -> tuple[int, ...]:
        chance = size / clients
        for attempt in count():
            dice = random.Random(derive(seed, "poisson", number, attempt))  # noqa: S311 (a reproducible draw)
            drawn = tuple(client for client in range(clients) if dice.random() < chance)
            if drawn:
                return drawn
        raise AssertionError("unreachable")

    def most(self, clients: int, size: int) -> int:
        return clients
