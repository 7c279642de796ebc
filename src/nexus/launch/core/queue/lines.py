"""The queue: runs that want a node now, in lines. A line's runs are of one user and need exactly the same.

So what one of them cannot have, those behind it cannot have either, and a look at a line is a look at its head.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from nexus.launch.core.exits import Place
from nexus.launch.core.placement.rooms import Need
from nexus.launch.model import Run

Order = tuple[float, str]  # when the run was handed in, its id


@dataclass(frozen=True, slots=True)
class LineKey:
    """What the runs of one line share."""

    project: str
    priority: int
    user: str
    shape: str  # what they need: of a whole plan, or of one run that has a part of its tasks already


@dataclass(slots=True, eq=False)
class Line:
    """Runs in the order in which they were handed in."""

    key: LineKey
    needs: tuple[Need, ...]
    runs: list[Order] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.runs)


class Queue:
    """All lines."""

    def __init__(self) -> None:
        self.lines: dict[LineKey, Line] = {}
        self.wanted: dict[str, Sequence[Place]] = {}  # run -> the places that it wants filled
        self._at: dict[str, tuple[LineKey, Order]] = {}

    def __len__(self) -> int:
        return len(self._at)

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._at

    def __iter__(self) -> Iterator[str]:
        return iter(self._at)

    def put(self, run: Run, shape: str, needs: Sequence[Need], wanted: Sequence[Place]) -> LineKey:
        """The run wants these places: it joins the line of its like, or stays there. Answers which."""
        key = LineKey(run.project, run.plan.priority, run.user, shape)
        self.wanted[run.id] = wanted
        there = self._at.get(run.id)
        if there is not None:
            if there[0] == key:
                return key
            self._take_out(run.id)
        line = self.lines.get(key)
        if line is None:
            line = self.lines[key] = Line(key, tuple(needs))
        order = (run.created, run.id)
        insort(line.runs, order)
        self._at[run.id] = key, order
        return key

    def drop(self, run_id: str) -> None:
        """The run wants nothing (any more)."""
        if run_id in self._at:
            self._take_out(run_id)
            del self.wanted[run_id]

    def line_of(self, run_id: str) -> Line | None:
        """Where the run stands; None: it does not wait for a node."""
        there = self._at.get(run_id)
        return self.lines[there[0]] if there is not None else None

    def _take_out(self, run_id: str) -> None:
        key, order = self._at.pop(run_id)
        line = self.lines[key]
        del line.runs[bisect_left(line.runs, order)]
        if not line.runs:
            del self.lines[key]
