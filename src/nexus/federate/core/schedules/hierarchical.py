"""Hierarchical rounds: groups of clients average among themselves several times before all groups do.

Liu et al., Client-Edge-Cloud Hierarchical Federated Learning, 2020, algorithm 1 (HierFAVG): a group's server makes
`times` rounds with its clients; then the global model is the mean of the groups' models weighted by their samples.
Client k belongs to group k mod `groups`. Whatever else an algorithm keeps on its server, each group keeps for itself
during the round, and the mean of it goes on. A group that has no quorum is left out of the round.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from nexus.federate.core.algorithm import State
from nexus.federate.core.schedule import Ended, Ground, clock, gather, in_order, noted, present
from nexus.federate.model import Outcome, Round, Settings, Turn
from nexus.kernel.errors import JobError, UsageError


@dataclass(frozen=True, slots=True)
class _Group:
    """What came of a group's part in a round."""

    state: State
    turns: list[Turn]
    at: float
    complaint: str = ""  # why it does not count


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
            whole = [group for group in made if not group.complaint]
            if not whole:
                raise JobError(made[0].complaint, hint="Lower quorum, or take fewer groups or a larger cohort.")
            state = _mean(state, whole)
            notes = noted(ground, max(group.at for group in made), between_b=2.0 * len(whole) * state.model.nbytes)
            yield Ended(state, in_order([turn for group in made for turn in group.turns]), notes)

    def _group(self, ground: Ground, state: State, members: Sequence[int], at: float) -> _Group:
        """One group's part of a round, its clients' turns put together."""
        turns: dict[int, Turn] = {}
        first = state.number * self.times + 1
        for number in range(first, first + self.times):
            found = gather(ground, members, len(members), number, at)
            at = found.at
            if found.complaint:
                lost = [
                    Turn(client=c, outcome=Outcome.DROPPED, reason="its group had no quorum") for c in found.members
                ]
                return _Group(state, [*found.dropped, *lost], at, found.complaint)
            plan = ground.composition.algorithm.plan(state)
            came, trained = ground.train(number, plan, found.members)
            state, latest = ground.advance(state, came, trained)
            for turn in (*latest, *found.dropped):
                turns[turn.client] = _together(turns.get(turn.client), turn)
        return _Group(state, list(turns.values()), at)


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


def _mean(start: State, groups: Sequence[_Group]) -> State:
    """The groups' states as one, weighted by samples. One group is itself, to the bit."""
    if len(groups) == 1:
        return replace(groups[0].state, number=start.number + 1)
    counts = [sum(turn.samples for turn in group.turns) for group in groups]
    parts = [(group.state, count / sum(counts)) for group, count in zip(groups, counts, strict=True)]
    model = sum(after.model * part for after, part in parts)
    extra = {name: sum(after.extra[name] * part for after, part in parts) for name in groups[0].state.extra}
    return replace(start, number=start.number + 1, model=model, extra=extra)
