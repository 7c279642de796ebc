"""The queue: runs that want a node now, in lines. A line's runs are of one user and need exactly the same.

So what one of them cannot have, those behind it cannot have either, and a look at a line is a look at its head. A line
for which there was no room is *blocked*, and is found again by what it needs, once room is freed that could serve it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from nexus.launch.core.exits import Place
from nexus.launch.core.placement.rooms import Need, Rooms
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
    refused: str = ""  # what its head was told
    is_blocked: bool = False

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def head(self) -> str:
        """The run that comes first."""
        return self.runs[0][1]


class Queue:
    """All lines. `rooms` are told which needs to watch for."""

    def __init__(self, rooms: Rooms) -> None:
        self.lines: dict[LineKey, Line] = {}
        self.open: dict[LineKey, Line] = {}  # those for which there may be room
        self.blocked: dict[LineKey, Line] = {}  # those for which there was none
        self.projects: Counter[str] = Counter()  # lines by project
        self.wanted: dict[str, Sequence[Place]] = {}  # run -> the places that it wants filled
        self._rooms = rooms
        self._at: dict[str, tuple[LineKey, Order]] = {}
        self._waiting: dict[Need, dict[LineKey, Line]] = {}  # blocked lines by what they need

    def __len__(self) -> int:
        return len(self._at)

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._at

    def __iter__(self) -> Iterator[str]:
        return iter(self._at)

    def put(self, run: Run, shape: str, needs: Sequence[Need], wanted: Sequence[Place]) -> Line:
        """The run wants these places: it joins the line of its like, or stays there. Answers which."""
        key = LineKey(run.project, run.plan.priority, run.user, shape)
        self.wanted[run.id] = wanted
        there = self._at.get(run.id)
        if there is not None:
            if there[0] == key:
                return self.lines[key]
            self._take_out(run.id)
        line = self.lines.get(key)
        if line is None:
            line = self.lines[key] = self.open[key] = Line(key, tuple(needs))
            self.projects[key.project] += 1
        order = (run.created, run.id)
        insort(line.runs, order)
        self._at[run.id] = key, order
        return line

    def drop(self, run_id: str) -> None:
        """The run wants nothing (any more)."""
        if run_id in self._at:
            self._take_out(run_id)
            del self.wanted[run_id]

    def line_of(self, run_id: str) -> Line | None:
        """Where the run stands; None: it does not wait for a node."""
        there = self._at.get(run_id)
        return self.lines[there[0]] if there is not None else None

    def block(self, line: Line) -> None:
        """There is no room for its head."""
        if self.open.pop(line.key, None) is None:
            return
        self.blocked[line.key] = line
        line.is_blocked = True
        for need in line.needs:
            waiting = self._waiting.get(need)
            if waiting is None:
                waiting = self._waiting[need] = {}
                self._rooms.watch(need)
            waiting[line.key] = line

    def unblock(self, line: Line) -> None:
        """There may be room for it."""
        if self.blocked.pop(line.key, None) is None:
            return
        self.open[line.key] = line
        line.is_blocked = False
        self._forget(line)

    def waiting(self, need: Need) -> list[Line]:
        """The blocked lines that need this."""
        return list(self._waiting.get(need, {}).values())

    def _forget(self, line: Line) -> None:
        for need in dict.fromkeys(line.needs):
            waiting = self._waiting[need]
            del waiting[line.key]
            if not waiting:
                del self._waiting[need]
                self._rooms.unwatch(need)

    def _take_out(self, run_id: str) -> None:
        key, order = self._at.pop(run_id)
        line = self.lines[key]
        del line.runs[bisect_left(line.runs, order)]
        if line.runs:
            return
        del self.lines[key]
        self.projects[key.project] -= 1
        if not self.projects[key.project]:
            del self.projects[key.project]
        if self.open.pop(key, None) is None:
            del self.blocked[key]
            self._forget(line)
