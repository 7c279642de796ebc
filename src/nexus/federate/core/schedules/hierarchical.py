"""Hierarchical rounds: groups of clients average among themselves several times before all groups do.

Liu et al., Client-Edge-Cloud Hierarchical Federated Learning, 2020, algorithm 1 (HierFAVG): a group's server makes
`times` rounds with its clients; then the global model is the mean of the groups' models weighted by their samples.
Client k belongs to group k mod `groups`. Whatever else an algorithm keeps on its server, each group keeps for itself
during the round, and the mean of it goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from nexus.federate.core.algorithm import State
from nexus.federate.core.schedule import Ended, Ground, clock, gather, in_order, noted, present
from nexus.federate.model import Round, Settings, Turn
from nexus.kernel.errors import UsageError


@dataclass(frozen=True)
class Hierarchical:
    """`groups` groups, each of which averages `times` times a round."""

    groups: int = 2
    times: int = 2

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if self.groups < 1 or self.times < 1:
            raise UsageError("schedule.groups and schedule.times must be 1 or more", hint="1 and 1 are plain rounds.")

    def fits(self, settings: Settings) -> str:
        return ""

    def run(self, ground: Ground, state: State, past: Sequence[Round]) -> Iterator[Ended]:
        while True:
            number = state.number + 1
            chosen = ground.composition.cohort(state, past)
            cohort, began = present(ground, chosen, number, clock(past), state.clients)
            groups = [[c for c in cohort if c % self.groups == group] for group in range(self.groups)]
            made = [self._group(ground, state, members, began) for members in groups if members]
            state = _mean(state, [(after, sum(turn.samples for turn in turns)) for after, turns, _ in made])
            model_b = state.model.nbytes
            notes = noted(ground, max(at for _, _, at in made), between_b=2.0 * len(made) * model_b)
            yield Ended(state, in_order([turn for _, turns, _ in made for turn in turns]), notes)

    def _group(
        self, ground: Ground, state: State, members: Sequence[int], at: float
    ) -> tuple[State, list[Turn], float]:
        """One group's part of a round: its state, its clients' turns put together, and when it is done."""
        turns: dict[int, Turn] = {}
        first = state.number * self.times + 1
        for number in range(first, first + self.times):
            found = gather(ground, members, len(members), number, at)
            at = found.at
            plan = ground.composition.algorithm.plan(state)
            came, trained = ground.train(number, plan, found.members)
            state, latest = ground.advance(state, came, trained)
            for turn in (*latest, *found.dropped):
                turns[turn.client] = _together(turns.get(turn.client), turn)
        return state, list(turns.values()), at


def _together(before: Turn | None, turn: Turn) -> Turn:
    """A client's turns in one round as one: as the last, at the cost of all."""
    if before is None:
        return turn
    return replace(
        turn,
        samples=turn.samples or before.samples,
        seconds=before.seconds + turn.seconds,
        bytes_down=before.bytes_down + turn.bytes_down,
        bytes_up=before.bytes_up + turn.bytes_up,
    )


def _mean(start: State, groups: Sequence[tuple[State, int]]) -> State:
    """The groups' states as one, weighted by samples. One group is itself, to the bit."""
    if len(groups) == 1:
        return replace(groups[0][0], number=start.number + 1)
    samples = sum(weight for _, weight in groups)
    parts = [(after, weight / samples) for after, weight in groups]
    model = sum(after.model * part for after, part in parts)
    extra = {name: sum(after.extra[name] * part for after, part in parts) for name in groups[0][0].extra}
    return replace(start, number=start.number + 1, model=model, extra=extra)
