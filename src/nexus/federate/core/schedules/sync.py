"""Synchronous rounds: a cohort starts from one model, and the next round begins when it has come back.

Where devices are simulated, `over` asks more clients than are needed and goes on with the first that come (Bonawitz et
al., Towards Federated Learning at Scale, 2019, ask 1.3 times as many); `deadline_s` ends a round without the slow ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nexus.federate.core.algorithm import State
from nexus.federate.core.schedule import Ended, Ground, clock, gather, in_order, noted, present
from nexus.federate.model import Round, Settings
from nexus.kernel.errors import UsageError


@dataclass(frozen=True)
class Sync:
    """One round after the other."""

    over: float = 1.0

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if not 1 <= self.over < math.inf:
            raise UsageError("schedule.over must be 1 or more", hint="1.3 asks three clients in ten too many.")

    def fits(self, settings: Settings) -> str:
        if self.over > 1 and settings.devices is None and not settings.trace:
            return "schedule.over asks more clients than it waits for: without devices nobody is slow"
        return ""

    def run(self, ground: Ground, state: State, past: Sequence[Round]) -> Iterator[Ended]:
        algorithm = ground.composition.algorithm
        while True:
            number, wanted = state.number + 1, ground.settings.cohort
            size = min(state.clients, math.ceil(self.over * wanted))
            chosen = ground.composition.cohort(state, past, size)
            asked, at = present(ground, chosen, number, clock(past), state.clients)
            count = min(wanted, len(asked)) if self.over > 1 else len(asked)
            found = gather(ground, asked, count, number, at).enough()
            came, trained = ground.train(number, algorithm.plan(state), found.members)
            state, turns = ground.advance(state, came, trained)
            yield Ended(state, in_order([*turns, *found.dropped]), noted(ground, found.at))
