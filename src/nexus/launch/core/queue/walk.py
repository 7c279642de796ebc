"""The queue in the order of justice: priority, then fair shares between projects, then between users, then age.

Shares change while the walk places runs, and only ever for the worse, so every heap here is checked lazily: what is on
top is weighed again, and goes down if it has become heavier.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from math import inf

from nexus.launch.core.queue.lines import Line, Order

Rank = tuple[int, float, Order, str]
_NEVER: Order = (inf, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Justice:
    """How projects and users compare now."""

    share: Callable[[str], float]  # what a project holds and held, over its weight
    user_share: Callable[[str, str], float]
    deserves: Callable[[str], float]  # a project's fair share, over its weight
    now: float
    aging_s: float

    def rank(self, project: str, priority: int, oldest: Order) -> Rank:
        """Lower is earlier. Who waits while others hold more than their share rises by one priority every `aging_s`."""
        share = self.share(project)
        aged = int(max(0.0, self.now - oldest[0]) / self.aging_s) if share <= self.deserves(project) + 1e-12 else 0
        return (-(priority + aged), share, oldest, project)


@dataclass(slots=True)
class _Band:
    """A project's lines of one priority."""

    project: str
    priority: int
    lines: dict[str, list[tuple[Order, int, Line]]] = field(default_factory=dict)  # user -> heap
    users: list[tuple[float, Order, str]] = field(default_factory=list)  # heap

    def oldest(self) -> Order | None:
        """The run that has waited longest; None when there is none."""
        return min((heap[0][0] for heap in self.lines.values() if heap), default=None)


class Walk:
    """`next` gives a run and its line; then `go_on` with that line, or leave it out for the rest of the walk.

    Lines of which `has_turn` says no are left out, too; it is asked late, and again when their turn has come.
    """

    def __init__(
        self, lines: Iterable[Line], justice: Justice, has_turn: Callable[[Line], bool] = lambda _: True
    ) -> None:
        self._justice = justice
        self._has_turn = has_turn
        self._last = _NEVER  # whose turn it was
        bands = self._bands = dict[tuple[str, int], _Band]()
        self._numbers = count()
        for line in lines:
            key = line.key
            band = bands.setdefault((key.project, key.priority), _Band(key.project, key.priority))
            band.lines.setdefault(key.user, []).append((line.runs[0], next(self._numbers), line))
        self._heap: list[tuple[Rank, int, _Band]] = []
        for number, band in enumerate(bands.values()):
            for user, heap in band.lines.items():
                heapq.heapify(heap)
                band.users.append((justice.user_share(band.project, user), heap[0][0], user))
            heapq.heapify(band.users)
            rank = self._rank(band)
            if rank is not None:
                self._heap.append((rank, number, band))
        heapq.heapify(self._heap)

    def next(self) -> tuple[Line, str] | None:
        """The run whose turn it is, and its line; None at the end."""
        while self._heap:
            rank, number, band = self._heap[0]
            self._leave_out(band)
            now = self._rank(band)
            if now is None:
                heapq.heappop(self._heap)
            elif now > rank:
                heapq.heapreplace(self._heap, (now, number, band))
            else:
                return self._first(band)
        return None

    def go_on(self, line: Line) -> None:
        """Those behind the run that `next` gave have their turn too."""
        at = bisect_right(line.runs, self._last)
        if at < len(line.runs):
            heap = self._bands[line.key.project, line.key.priority].lines[line.key.user]
            heapq.heappush(heap, (line.runs[at], next(self._numbers), line))

    def _leave_out(self, band: _Band) -> None:
        """What has no turn any more stands before nobody."""
        for heap in band.lines.values():
            while heap and not self._has_turn(heap[0][2]):
                heapq.heappop(heap)

    def _first(self, band: _Band) -> tuple[Line, str]:
        """The band's next run: of the user who holds least, the oldest."""
        while True:
            was = band.users[0]
            heap = band.lines[was[2]]
            share = self._justice.user_share(band.project, was[2]) if heap else inf
            now = (share, heap[0][0] if heap else _NEVER, was[2])
            if now > was:
                heapq.heapreplace(band.users, now)
                continue
            self._last, _, line = heapq.heappop(heap)
            return line, self._last[1]

    def _rank(self, band: _Band) -> Rank | None:
        oldest = band.oldest()
        return None if oldest is None else self._justice.rank(band.project, band.priority, oldest)


def ahead(lines: Iterable[Line], justice: Justice, run_id: str, mine: Line) -> int:
    """How many runs have their turn before this one, as things are now."""
    bands: dict[tuple[str, int], list[Line]] = {}
    for line in lines:
        bands.setdefault((line.key.project, line.key.priority), []).append(line)
    ranks = {key: justice.rank(*key, min(line.runs[0] for line in band)) for key, band in bands.items()}
    own = (mine.key.project, mine.key.priority)
    order = next(order for order in mine.runs if order[1] == run_id)
    earlier = sum(len(line) for key, band in bands.items() if ranks[key] < ranks[own] for line in band)
    return earlier + sum(bisect_left(line.runs, order) for line in bands[own])
