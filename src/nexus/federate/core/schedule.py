"""What a schedule is: how rounds follow each other, and who waits for whom.

A round of any schedule ends with a new model; what a schedule remembers between rounds lies in `State.extra` under
names that begin with `schedule.`, so that a checkpoint of the state and the rounds is enough to go on.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from nexus.federate.core.algorithm import State, Vectors
from nexus.federate.core.device import Devices, errand
from nexus.federate.core.seeds import derive
from nexus.federate.model import Outcome, Round, Settings, Turn
from nexus.kernel.errors import JobError

if TYPE_CHECKING:
    from nexus.federate.core.composition import Composition
    from nexus.federate.core.stack import Stack
    from nexus.federate.core.total import Total

CLOCK = "virtual_s"  # the note of a round that says when it ended, on virtual time
MEMORY = "schedule."

Train = Callable[[int, Vectors, Sequence[int]], "tuple[Total | Stack, list[Turn]]"]  # an engine's `round`


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of one round."""

    state: State
    turns: Sequence[Turn]
    notes: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Ground:
    """What a schedule works with."""

    composition: Composition
    train: Train
    samples: Callable[[int], int]  # how many a client has
    size_b: int  # of a plan and an update together, as they are before packing
    devices: Devices | None = None  # None: everybody is there, and nobody looks at a clock

    @property
    def settings(self) -> Settings:
        """The run's."""
        return self.composition.settings

    def work(self, client: int) -> int:
        """How many samples a client goes through in a turn."""
        return self.samples(client) * self.settings.local.epochs

    def advance(self, state: State, came: Total | Stack, turns: Sequence[Turn]) -> tuple[State, Sequence[Turn]]:
        """The server's half of a round, with its defence. Raises UsageError."""
        remembered, total, turns = self.composition.totalled(state, came, turns)
        return self.composition.algorithm.advance(remembered, total), turns


class Schedule(Protocol):
    """Its options are the fields of the frozen dataclass that implements it."""

    def fits(self, settings: Settings) -> str:
        """Why these settings cannot go by it; empty: they can."""
        ...

    def run(self, ground: Ground, state: State, past: Sequence[Round]) -> Iterator[Ended]:
        """Every round after `state`, without end. `past` are those before, to which the caller adds each that ended.

        Raises JobError.
        """
        ...


# --------------------------------------------------------------------------- clients on virtual time


@dataclass(frozen=True, slots=True)
class Gathered:
    """Who trains in a round, who was asked in vain, and when the round is over."""

    members: tuple[int, ...]
    dropped: tuple[Turn, ...]
    at: float
    complaint: str = ""  # why the members are too few

    def enough(self) -> Gathered:
        """Itself. Raises JobError when the members are fewer than a quorum."""
        if self.complaint:
            raise JobError(self.complaint, hint="Raise deadline_s or schedule.over, or lower quorum.")
        return self


def clock(past: Sequence[Round]) -> float:
    """The virtual time at which the last round ended."""
    return past[-1].notes.get(CLOCK, 0.0) if past else 0.0


def present(ground: Ground, chosen: Sequence[int], number: int, at: float, clients: int) -> tuple[list[int], float]:
    """As many clients as were chosen, of those that are there: in the place of the absent come others, by lot.

    If nobody is there, time goes on until somebody is. Raises JobError if nobody ever comes again.
    """
    devices = ground.devices
    if devices is None:
        return list(chosen), at
    arrivals = {client: devices.comes(client, at) for client in range(clients)}
    soonest = min(arrivals.values())
    if soonest == math.inf:
        raise JobError(
            f"no client comes after {at:.0f} virtual seconds",
            hint="The trace of devices ends there: ask for fewer rounds, or give a longer trace.",
        )
    at = max(at, soonest)
    here = [client for client in range(clients) if devices.comes(client, at) <= at]
    found = sorted(set(chosen) & set(here))
    others = sorted(set(here) - set(chosen))
    random.Random(derive(ground.settings.seed, "instead", number)).shuffle(others)  # noqa: S311
    return sorted(found + others[: len(chosen) - len(found)]), at


def gather(ground: Ground, asked: Sequence[int], wanted: int, number: int, at: float) -> Gathered:
    """Ask clients at `at`, and wait for `wanted` of them, or for all that is left, or until the deadline."""
    devices, settings = ground.devices, ground.settings
    if devices is None:
        return Gathered(tuple(asked), (), at)
    errands = [errand(devices, client, number, at, ground.work(client), ground.size_b) for client in asked]
    deadline = at + settings.deadline_s
    came = sorted((one.ends, one.client) for one in errands if not one.lost and one.ends <= deadline)[:wanted]
    over = came[-1][0] if len(came) == wanted else 0.0
    if len(came) < wanted:  # the rest is waited for until it is known to be lost, or the deadline
        over = min(deadline, max(one.ends + (settings.lost_after_s if one.lost else 0.0) for one in errands))
    members = {client for _, client in came}
    needed = max(1, math.ceil(settings.quorum * wanted))
    complaint = ""
    if len(members) < needed:
        complaint = f"round {number} has {len(members)} of {wanted} updates at its end, and {needed} are needed"
    missing = (one for one in errands if one.client not in members)
    late = "sent nothing before the deadline" if over >= deadline else "others were faster"
    dropped = tuple(Turn(client=m.client, outcome=Outcome.DROPPED, reason=m.lost or late) for m in missing)
    return Gathered(tuple(sorted(members)), dropped, over, complaint)


def noted(ground: Ground, at: float, **notes: float) -> dict[str, float]:
    """A round's notes, with the virtual time if there is one."""
    return notes if ground.devices is None else {CLOCK: at, **notes}


def in_order(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The turns by client."""
    return tuple(sorted(turns, key=lambda turn: turn.client))


def forget(state: State) -> State:
    """The state without what the schedule remembers."""
    return replace(state, extra={name: v for name, v in state.extra.items() if not name.startswith(MEMORY)})
