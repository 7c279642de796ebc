"""Room that is kept for a run until it can start, so that smaller and later ones do not take it away for ever.

What is free now of a reserved place is held by a shadow: a claim that looks like a task. As tasks end there, the shadow
grows, until the run itself fits. Others may use what a shadow holds only if they surely end before it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from nexus.launch.core.exits import Place
from nexus.launch.core.placement.rooms import Rooms
from nexus.launch.model import Assignment, Placement, Run, Task


@dataclass(slots=True, eq=False)
class Reservation:
    """`places` are kept for `run`. Mutable: its shadows follow what becomes free."""

    run: str
    priority: int
    created: float  # when the run was handed in: among equals, who came first keeps its room
    places: tuple[Assignment, ...]
    needs: Mapping[str, tuple[float, int]]  # role -> cpu, memory of one task
    at: float | None  # when the run starts at the latest; None: nobody knows
    made: float
    waits_for: tuple[str, ...] = ()  # the runs whose ends it waits for
    preempts: bool = False  # those runs are stopped for it
    stale: bool = False  # something ended or went away where it keeps room
    shadows: list[Task] = field(default_factory=list)
    nodes: frozenset[str] = field(init=False)  # where it keeps room

    def __post_init__(self) -> None:
        self.nodes = frozenset(place.node for place in self.places)

    @property
    def order(self) -> tuple[int, float, str]:
        """Lower is more important."""
        return (-self.priority, self.created, self.run)

    def withdraw(self, rooms: Rooms) -> None:
        """Hold nothing."""
        for shadow in self.shadows:
            rooms.let_go(shadow)
        self.shadows = []

    def refresh(self, rooms: Rooms) -> None:
        """Hold what is free now of the reserved places."""
        self.withdraw(rooms)
        self.stale = False
        for number, place in enumerate(self.places):
            room = rooms.room(place.node)
            if room is None:
                continue
            cpu, memory_b = self.needs[place.role]
            shadow = Task(
                id=f"shadow/{self.run}/{number}",
                project="",
                created=0.0,
                run=self.run,
                role=place.role,
                index=place.index,
                attempt=0,
                node=place.node,
                epoch=0,
                cpu=max(0.0, min(cpu, room.cpu)),
                memory_b=max(0, min(memory_b, room.memory_b)),
                gpus=tuple(gpu for gpu in place.gpus if gpu in room.gpus),
            )
            rooms.hold(shadow)
            self.shadows.append(shadow)


def order_of(run: Run) -> tuple[int, float, str]:
    """As `Reservation.order`."""
    return (-run.plan.priority, run.created, run.id)


@dataclass(frozen=True, slots=True)
class Opening:
    """A place that will be: by when, and once which tasks have ended."""

    placement: Placement
    at: float | None
    waits_for: tuple[str, ...]


def opening(
    place: Callable[[], Placement],
    rooms: Rooms,
    live: Sequence[Task],
    ends: Mapping[str, float],
    now: float,
) -> Opening | None:
    """The earliest certain place, given what runs now; None when there is none even on empty nodes.

    `ends` says by when tasks are over at the latest; a task that is not named may run for ever. `place` is asked with
    more and more tasks taken for ended, in the order of their ends: about 2 log2(tasks) times.
    """
    known = sorted((task for task in live if task.id in ends), key=lambda task: (ends[task.id], task.id))
    found = _shortest(place, rooms, known)
    if found is not None:
        count, placement = found
        at = ends[known[count - 1].id] if count else now
        return Opening(placement, max(at, now), _runs_on(placement, known[:count]))
    # Nobody knows when the rest ends: those that began last have, so far, shown the least that they need long.
    rest = sorted((task for task in live if task.id not in ends), key=lambda task: (-task.created, task.id))
    found = _shortest(place, rooms, [*known, *rest], at_least=len(known))
    if found is None:
        return None
    count, placement = found
    return Opening(placement, None, _runs_on(placement, [*known, *rest][:count]))


def _shortest(
    place: Callable[[], Placement], rooms: Rooms, tasks: Sequence[Task], at_least: int = 0
) -> tuple[int, Placement] | None:
    """How many of `tasks` must have ended for a place, and that place."""

    def without(count: int) -> Placement:
        with rooms.as_if_ended(tasks[:count]):
            return place()

    low, high, step = at_least, at_least, 16  # not with `low` (or nobody asked); with `high`?
    while not (placement := without(high)).fits:
        if high == len(tasks):
            return None
        low, high, step = high + 1, min(high + step, len(tasks)), step * 4
    while low < high:
        middle = (low + high) // 2
        tried = without(middle)
        if tried.fits:
            high, placement = middle, tried
        else:
            low = middle + 1
    return high, placement


def _runs_on(placement: Placement, ended: Sequence[Task]) -> tuple[str, ...]:
    nodes = {one.node for one in placement.assignments}
    return tuple(dict.fromkeys(task.run for task in ended if task.node in nodes))


def known_ends(runs: Mapping[str, Run], live: Sequence[Task], now: float) -> dict[str, float]:
    """By when live tasks are over at the latest: task -> time. Those of a run without a timeout are not in it.

    The clock of a run's timeout starts with its first task, and what winds down has its grace.
    """
    starts: dict[str, float] = {}
    for task in live:
        if task.started is not None:
            starts[task.run] = min(starts.get(task.run, task.started), task.started)
    ends: dict[str, float] = {}
    for task in live:
        run = runs.get(task.run)
        if run is None:
            continue
        if task.wanted == "stop":
            ends[task.id] = now + run.plan.grace_s
        elif run.until is not None:
            ends[task.id] = run.until
        elif run.plan.timeout_s is not None and task.run in starts:
            ends[task.id] = max(now, starts[task.run] + run.plan.timeout_s + run.plan.grace_s)
    return ends


def ends_in_time(run: Run, now: float, at: float | None) -> bool:
    """Whether a run that starts now is surely over at `at`: by its timeout, its grace included."""
    return at is not None and run.plan.timeout_s is not None and now + run.plan.timeout_s + run.plan.grace_s <= at


def needs_of(run: Run, wanted: Sequence[Place]) -> dict[str, tuple[float, int]]:
    """What one task of each wanted role holds: role -> cpu, memory."""
    roles = {name: run.plan.role(name).needs for name, _ in wanted}
    return {name: (needs.cpu.least, int(needs.memory_b.least)) for name, needs in roles.items()}
