"""For a run that could start but for the room that others hold.

Lower runs make room if they may be preempted; else room is kept for the run from when it has waited long enough, and
later runs start before it only where they cannot delay it (backfill).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from nexus.kernel.errors import NexusError
from nexus.launch.core.exits import Place
from nexus.launch.core.lifecycle import Progress, preempt
from nexus.launch.core.policy import Policy
from nexus.launch.core.queue.reservations import Reservation, ends_in_time, known_ends, needs_of, opening, order_of
from nexus.launch.core.queue.victims import candidate, choose, may_preempt
from nexus.launch.core.standing import Standing
from nexus.launch.model import Placement, Run, RunState, Task

_NODES, _TIMES = 32, 4  # on so many nodes, or times as many as a run wants places, its earliest start is looked for
Asked = Callable[[], Placement]  # a place for what a run wants, as the rooms are at that moment


class MakingRoom:
    """Of one look. It changes no room itself: it says what to keep, and who was stopped."""

    def __init__(
        self, standing: Standing, now: float, policy: Policy, progress: Callable[[str], tuple[Progress, list[Task]]]
    ) -> None:
        self._standing, self._now, self._policy, self._progress = standing, now, policy, progress
        self._evicted: set[str] = set()
        self._given: set[str] = set()
        self._taken: list[tuple[Run, tuple[Task, ...]]] = []

    def gave(self, run_id: str) -> None:
        """The run got something in this look; it is not stopped in the same."""
        self._given.add(run_id)

    def has_evicted(self, run_id: str) -> bool:
        """Whether the run is stopped in this look."""
        return run_id in self._evicted

    def taken(self) -> list[tuple[Run, tuple[Task, ...]]]:
        """The runs stopped since the last call, with the tasks that were told so."""
        taken, self._taken = self._taken, []
        return taken

    def below(self, run: Run) -> list[Reservation]:
        """The reservations of runs that come after this one: what they keep, it may have."""
        order = order_of(run)
        return [one for one in self._standing.reservations.values() if one.run != run.id and one.order > order]

    def borrow(self, run: Run, place: Asked) -> tuple[Placement | None, list[Reservation]]:
        """Backfill: a place on room that is kept for others, if the run is surely over before they need it."""
        standing = self._standing
        if run.state is not RunState.QUEUED or run.plan.timeout_s is None or standing.books[run.id].live():
            return None, []
        kept = standing.reservations.values()
        lenders = [one for one in kept if one.run != run.id and ends_in_time(run, self._now, one.at)]
        if not lenders:
            return None, []
        free = [*lenders, *self.below(run), *(one for one in kept if one.run == run.id)]
        with standing.rooms.as_if_ended([shadow for one in free for shadow in one.shadows]):
            placement = place()
        used = {one.node for one in placement.assignments}
        return (placement, [one for one in lenders if one.nodes & used]) if placement.fits else (None, [])

    def make(self, run: Run, wanted: Sequence[Place], place: Asked) -> Reservation | None:
        """What is to be kept for the run, with what it has already taken for free; None: nothing."""
        standing = self._standing
        leaving = [standing.tasks[task] for task in standing.leaving]
        leaving += [task for run_id in self._evicted for task in standing.books[run_id].live()]
        with standing.rooms.as_if_ended(leaving):
            placement = place() if leaving else Placement()
            victims: list[str] = []
            if not placement.fits:
                evicted, victims = self._evict(run, place)
                placement = evicted or placement
        if placement.fits:
            gone = dict.fromkeys([*victims, *(task.run for task in leaving)])
            return self._kept(run, wanted, placement, self._now + self._longest_grace(gone), tuple(gone), preempts=True)
        return self._wait(run, wanted, place)

    # ------------------------------------------------------------------ preemption

    def _evict(self, run: Run, place: Asked) -> tuple[Placement | None, list[str]]:
        """Stop the runs whose end costs least, if that makes room."""
        standing, now, policy = self._standing, self._now, self._policy
        candidates = [
            candidate(standing.runs[other], standing.books[other].live(), now, policy.restart_cost_s)
            for other in standing.preemptible
            if may_preempt(run, standing.runs[other]) and self._goes_on(other)
        ]
        eviction = choose(place, standing.rooms, candidates) if candidates else None
        if eviction is None:
            return None, []
        reason = f"made room for {run.name} ({run.id}), whose priority is {run.plan.priority}"
        for victim in eviction.victims:
            progress, tasks = self._progress(victim.run.id)
            moved = {task.id: task for task in progress.tasks}
            stopped = preempt(progress.run, [moved.get(task.id, task) for task in tasks], reason, now)
            self._taken.append((stopped.run, stopped.tasks))
            self._evicted.add(victim.run.id)
            standing.queue.drop(victim.run.id)
        return eviction.placement, [victim.run.id for victim in eviction.victims]

    def _goes_on(self, run_id: str) -> bool:
        """Whether the run, as this look leaves it, would go on."""
        if run_id in self._given or run_id in self._evicted:
            return False
        try:
            run = self._progress(run_id)[0].run
        except NexusError:
            return False
        return run.state in {RunState.STARTING, RunState.RUNNING}

    def _longest_grace(self, runs: Sequence[str] | dict[str, None]) -> float:
        known = self._standing.runs
        return max((known[run].plan.grace_s for run in runs if run in known), default=0.0)

    # ------------------------------------------------------------------ waiting

    def _wait(self, run: Run, wanted: Sequence[Place], place: Asked) -> Reservation | None:
        """Keep room from when the run has waited long enough, if it is among the first that wait."""
        standing, now, policy = self._standing, self._now, self._policy
        since = max(run.created, run.not_before)
        old = standing.reservations.get(run.id)
        if old is not None and now < min(old.made + policy.reserve_again_s, inf if old.at is None else old.at):
            return old
        if now < since + policy.reserve_after_s:
            standing.look_again(run.id, since + policy.reserve_after_s)
            return None
        if old is None and not self._may_keep(run):
            return None
        live = self._in_the_way(run, wanted)
        found = opening(place, standing.rooms, live, known_ends(standing.runs, live, now), now)
        if found is None:  # it would not even fit on empty nodes
            return None
        standing.look_again(
            run.id, min(now + policy.reserve_again_s, inf if found.at is None else max(found.at, now + 1))
        )
        return self._kept(run, wanted, found.placement, found.at, found.waits_for, preempts=False)

    def _may_keep(self, run: Run) -> bool:
        """Whether the run is among the first; then the last of those who keep room lets go of it."""
        standing = self._standing
        others = sorted(standing.reservations.values(), key=lambda one: one.order)
        if len(others) < self._policy.reservations:
            return True
        if others[-1].order < order_of(run):
            return False
        standing.cancel_reservation(others[-1].run)
        return True

    def _kept(
        self,
        run: Run,
        wanted: Sequence[Place],
        placement: Placement,
        at: float | None,
        waits_for: tuple[str, ...],
        *,
        preempts: bool,
    ) -> Reservation:
        return Reservation(
            run=run.id,
            priority=run.plan.priority,
            created=run.created,
            places=placement.assignments,
            needs=needs_of(run, wanted),
            at=at,
            made=self._now,
            waits_for=waits_for,
            preempts=preempts,
        )

    def _in_the_way(self, run: Run, wanted: Sequence[Place]) -> list[Task]:
        """The tasks on the nodes that could take the run and are surely empty first: a few times as many as it needs.

        More would find an earlier start now and then, at the cost of every task there is.
        """
        standing, now = self._standing, self._now
        roles = [run.plan.role(name) for name in dict.fromkeys(name for name, _ in wanted)]
        nodes = dict.fromkeys(node for role in roles for node in standing.fitting(role, run.project))
        there = {node: standing.on_node.get(node, {}) for node in nodes}
        if run.plan.network != "fast":
            ends = known_ends(standing.runs, [task for tasks in there.values() for task in tasks.values()], now)
            empty = {node: max((ends.get(task, inf) for task in tasks), default=now) for node, tasks in there.items()}
            first = sorted(nodes, key=lambda node: (empty[node], len(there[node]), node))
            there = {node: there[node] for node in first[: max(_NODES, _TIMES * len(wanted))]}
        return [task for tasks in there.values() for task in tasks.values()]
