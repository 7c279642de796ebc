"""Preemption: which runs make room for one of a higher priority, so that the least work is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from nexus.launch.core.placement.rooms import Rooms
from nexus.launch.core.queue.shares import GPU_AS_CPUS
from nexus.launch.model import Placement, Run, Task

FEW = 24  # with up to so many candidates the best set is looked for, with more a good one is taken
TRIES = 2000  # placements tried in that search; beyond, the best set found so far stands


@dataclass(frozen=True, slots=True)
class Candidate:
    """A run that could be stopped, whole, and what that costs."""

    run: Run
    tasks: tuple[Task, ...]  # its live ones
    loss: float


@dataclass(frozen=True, slots=True)
class Eviction:
    """Who goes, and where the other then starts."""

    victims: tuple[Candidate, ...]
    placement: Placement

    @property
    def loss(self) -> float:
        """What it costs in all."""
        return sum(one.loss for one in self.victims)


def may_preempt(run: Run, other: Run) -> bool:
    """Only upward, and only of runs that said so."""
    return other.plan.preemptible and other.plan.priority < run.plan.priority


def candidate(run: Run, tasks: Sequence[Task], now: float, restart_s: float) -> Candidate:
    """What stopping `run` costs: for each task, the time it has worked and a restart, times what it holds."""
    loss = sum(
        max(task.cpu, GPU_AS_CPUS * len(task.gpus), 1.0) * (max(0.0, now - task.created) + restart_s) for task in tasks
    )
    return Candidate(run, tuple(tasks), loss)


def choose(place: Callable[[], Placement], rooms: Rooms, candidates: Iterable[Candidate]) -> Eviction | None:
    """The runs whose end costs least (of equal sets the smaller) and makes `place` fit; None: there are none.

    A greedy set first, less everything it does not need; with few candidates, branch and bound from there: exact while
    it stays within `TRIES` placements.
    """
    search = _Search(place, rooms, sorted(candidates, key=lambda one: (one.loss, one.run.id)))
    return search.run()


class _Search:
    def __init__(self, place: Callable[[], Placement], rooms: Rooms, candidates: list[Candidate]) -> None:
        self._place, self._rooms, self._all = place, rooms, candidates
        self._tries = 0
        self._best: Eviction | None = None

    def run(self) -> Eviction | None:
        if not self._all or not self._fits(self._all):
            return None
        self._greedy()
        if len(self._all) <= FEW:
            self._descend([], 0, 0.0)
        return self._best

    def _fits(self, victims: Sequence[Candidate]) -> Placement | None:
        self._tries += 1
        with self._rooms.as_if_ended(task for one in victims for task in one.tasks):
            placement = self._place()
        return placement if placement.fits else None

    def _greedy(self) -> None:
        """The cheapest first until it fits, then without each that is not needed, the dearest first."""
        low, high = 1, len(self._all)
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self._fits(self._all[:middle]) else (middle + 1, high)
        chosen = self._all[:low]
        for one in sorted(chosen, key=lambda one: -one.loss):
            fewer = [other for other in chosen if other is not one]
            if fewer and self._fits(fewer):
                chosen = fewer
        self._take(chosen)

    def _take(self, chosen: Sequence[Candidate]) -> None:
        placement = self._fits(chosen)
        if placement is not None:
            self._best = Eviction(tuple(chosen), placement)

    def _is_better(self, loss: float, count: int) -> bool:
        best = self._best
        return best is None or (round(loss, 6), count) < (round(best.loss, 6), len(best.victims))

    def _descend(self, chosen: list[Candidate], start: int, loss: float) -> None:
        """Every set whose loss is below the best one's, smallest losses first."""
        for at in range(start, len(self._all)):
            one = self._all[at]
            if not self._is_better(loss + one.loss, len(chosen) + 1) or self._tries >= TRIES:
                return  # the rest is dearer still
            chosen.append(one)
            if self._fits(chosen):
                self._take(chosen)
            elif self._fits([*chosen, *self._all[at + 1 :]]):  # can anything that follows help at all?
                self._descend(chosen, at + 1, loss + one.loss)
            chosen.pop()
