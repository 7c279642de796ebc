"""Asynchronous rounds: nobody waits for the slow. The server steps whenever enough updates have come.

Nguyen et al., Federated Learning with Buffered Asynchronous Aggregation, 2022 (FedBuff), algorithm 1: `cohort` clients
are always under way, each from the model that was new when it started; when K updates have come, the server moves by
their mean, where one that started s models ago counts (1 + s)^-power of itself. Whoever comes back makes room for
another. K is the part `part` of the cohort.

The order of all this follows from the devices alone, so it is one list, made before anything is trained.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from nexus.federate.core.algorithm import State, Vectors
from nexus.federate.core.device import Devices, Errand, errand
from nexus.federate.core.schedule import CLOCK, MEMORY, Ended, Ground, forget
from nexus.federate.core.seeds import derive
from nexus.federate.model import Outcome, Round, Settings, Turn
from nexus.kernel.errors import JobError, UsageError

if TYPE_CHECKING:
    from nexus.federate.core.stack import Stack
    from nexus.federate.core.total import Total


@dataclass(frozen=True, slots=True)
class Batch:
    """What the server has when it steps: which client's update of which model, and who was lost since the last."""

    at: float
    came: tuple[tuple[int, int], ...]  # client, and the number of rounds that its model had seen
    lost: tuple[Errand, ...]
    oldest: int  # the oldest model that somebody still works on


@dataclass(frozen=True)
class Buffered:
    """Steps with each `part` of the cohort that comes; the larger `power`, the less old updates count."""

    clocked: ClassVar[bool] = True  # without devices of its own choice, a run has random ones

    part: float = 0.3
    power: float = 0.5

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if not 0 < self.part <= 1:
            raise UsageError("schedule.part must be above 0 and at most 1", hint="0.3: three of ten under way.")
        if not 0 <= self.power < math.inf:
            raise UsageError("schedule.power must be 0 or more", hint="0: old updates count like new ones.")

    def fits(self, settings: Settings) -> str:
        return ""

    def run(self, ground: Ground, state: State, past: Sequence[Round]) -> Iterator[Ended]:
        algorithm = ground.composition.algorithm
        batches = timetable(ground, state.clients, max(1, round(self.part * ground.settings.cohort)))
        for _ in range(state.number):
            next(batches)
        if not state.number:
            state = _remember(state, algorithm.plan(state))
        for batch in batches:
            parts: list[Total | Stack] = []
            turns: list[Turn] = []
            for version in sorted({version for _, version in batch.came}):
                clients = sorted(client for client, started in batch.came if started == version)
                age = state.number - version
                came, found = ground.train(version + 1, _plan(state, version), clients)
                parts.append(_aged(came, age, self.power))
                turns += [replace(turn, notes=turn.notes | {"staleness": float(age)}) for turn in found]
            plain, noted = ground.advance(state, _together(parts), turns)
            state = _remember(plain, algorithm.plan(forget(plain)), batch.oldest)
            dropped = [Turn(client=e.client, outcome=Outcome.DROPPED, reason=e.lost) for e in batch.lost]
            stale = sum(turn.notes["staleness"] for turn in turns) / len(turns)
            yield Ended(state, [*noted, *dropped], {CLOCK: batch.at, "staleness": stale})


def _aged(came: Total | Stack, age: int, power: float) -> Total | Stack:
    """What came, with less of its `delta`, which is what moves the model, the older it is; in memory of its own."""
    from nexus.federate.core.stack import Stack

    factor = (1.0 + age) ** -power
    if not isinstance(came, Stack):
        if "delta" in came.sums:
            came.sums["delta"] *= factor
        return came
    rows = [{name: v * factor if name == "delta" else v.copy() for name, v in row.items()} for row in came.rows]
    return Stack(came.clients, came.weights.tolist(), rows)


def _together(parts: Sequence[Total | Stack]) -> Total | Stack:
    """What came from every model as one."""
    from nexus.federate.core.stack import Stack

    whole = parts[0]
    for part in parts[1:]:
        if isinstance(whole, Stack) and isinstance(part, Stack):
            weights = [*whole.weights.tolist(), *part.weights.tolist()]
            whole = Stack([*whole.clients, *part.clients], weights, [*whole.rows, *part.rows])
        elif not isinstance(whole, Stack) and not isinstance(part, Stack):
            whole.merge(part)
    return whole


# --------------------------------------------------------------------------- models that clients still work on


def _remember(state: State, plan: Vectors, oldest: int = 0) -> State:
    """The state with its own plan, and those since `oldest`, in memory."""
    kept = {name: v for name, v in state.extra.items() if _version(name) is None or (_version(name) or 0) >= oldest}
    new = {f"{MEMORY}{state.number}.{name}": vector for name, vector in plan.items()}
    return replace(state, extra=kept | new)


def _plan(state: State, version: int) -> Vectors:
    begins = f"{MEMORY}{version}."
    return {n.removeprefix(begins): vector for n, vector in state.extra.items() if n.startswith(begins)}


def _version(name: str) -> int | None:
    return int(name.removeprefix(MEMORY).partition(".")[0]) if name.startswith(MEMORY) else None


# --------------------------------------------------------------------------- who comes when


@dataclass
class _Under:
    """Everything under way."""

    heap: list[tuple[float, int, Errand, int]] = field(default_factory=list)  # end, order of start, errand, version
    clients: set[int] = field(default_factory=set)  # under way, or come and not counted yet
    started: int = 0


def timetable(ground: Ground, clients: int, take: int) -> Iterator[Batch]:
    """Every step of the server, without end. Raises JobError when nobody comes any more."""
    settings, under, at, version = ground.settings, _Under(), 0.0, 0
    came: list[tuple[int, int]] = []
    lost: list[Errand] = []
    while True:
        _start(ground, under, at, version, clients)
        if not under.heap:
            at = _wait(ground, under, at, clients)
            continue
        at, _, done, started = heapq.heappop(under.heap)
        if done.lost:
            lost.append(done)
            under.clients.discard(done.client)
        else:
            came.append((done.client, started))
        if len(came) < min(take, settings.cohort):
            continue
        under.clients -= {client for client, _ in came}
        oldest = min((entry[3] for entry in under.heap), default=version + 1)
        yield Batch(at, tuple(came), tuple(lost), oldest)
        came, lost, version = [], [], version + 1


def _start(ground: Ground, under: _Under, at: float, version: int, clients: int) -> None:
    """Fill the places that are free with clients that are there and idle, by lot."""
    devices, settings = _devices(ground), ground.settings
    while len(under.heap) < settings.cohort:
        idle = [c for c in range(clients) if c not in under.clients and devices.comes(c, at) <= at]
        if not idle:
            return
        dice = random.Random(derive(settings.seed, "dispatch", under.started))  # noqa: S311 (a reproducible draw)
        client = dice.choice(idle)
        # the count of starts: who failed and starts again from the same model has another fate
        done = errand(devices, client, under.started, at, ground.work(client), ground.size_b)
        known = done.ends + (settings.lost_after_s if done.lost else 0.0)
        heapq.heappush(under.heap, (known, under.started, done, version))
        under.clients.add(client)
        under.started += 1


def _wait(ground: Ground, under: _Under, at: float, clients: int) -> float:
    """When the next client comes that could start."""
    devices = _devices(ground)
    soonest = min((devices.comes(c, at) for c in range(clients) if c not in under.clients), default=math.inf)
    if soonest == math.inf:
        raise JobError(
            f"no client comes after {at:.0f} virtual seconds",
            hint="The trace of devices ends there: ask for fewer rounds, or give a longer trace.",
        )
    return soonest


def _devices(ground: Ground) -> Devices:
    if ground.devices is None:
        raise AssertionError("a schedule that goes by the clock is given devices")
    return ground.devices
