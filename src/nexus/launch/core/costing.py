"""What was spent, added up from the time for which tasks held their part of a priced machine.

Machines that a provider started for us cost from their start to their end; what of that no task held is idle.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from nexus.launch.ports import MachineSpan, Span

DAY_S = 86_400.0


class By(StrEnum):
    """What a bill has a line for."""

    RUN = "run"
    USER = "user"
    PROJECT = "project"
    NODE = "node"
    DAY = "day"  # in UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRow:
    """One line: `seconds` are those that tasks held, added up."""

    key: str
    label: str
    cost: float
    seconds: float
    tasks: int
    user: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleRow:
    """What a fleet's machines cost while no task held them."""

    fleet: str
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CostReport:
    """A bill. `rest` sums the lines that are not shown."""

    by: By
    since: float
    until: float
    rows: tuple[CostRow, ...]
    rest: CostRow | None = None
    idle: tuple[IdleRow, ...] = ()
    total: float = 0.0  # idle time included


@dataclass(slots=True)
class _Sum:
    label: str = ""
    user: str = ""
    cost: float = 0.0
    seconds: float = 0.0
    tasks: int = 0


@dataclass(slots=True)
class Bill:
    """Takes spans one at a time, as many as there are, and keeps sums only. What is outside the window is left out."""

    by: By
    since: float
    until: float
    now: float
    _sums: defaultdict[str, _Sum] = field(default_factory=lambda: defaultdict(_Sum))
    _nodes: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, span: Span) -> None:
        """Count one task's time."""
        start, end = self._clip(span.start, span.end)
        if end <= start:
            return
        self._nodes[span.node] += cost_of(span.price, start, end)
        for key, label, begin, finish in self._lines(span, start, end):
            line = self._sums[key]
            line.label = label
            line.cost += cost_of(span.price, begin, finish)
            line.seconds += finish - begin
            line.tasks += 1
            if self.by is By.RUN:
                line.user = span.user

    def _lines(self, span: Span, start: float, end: float) -> Iterator[tuple[str, str, float, float]]:
        if self.by is By.DAY:
            while start < end:
                midnight = (start // DAY_S + 1) * DAY_S
                day = datetime.fromtimestamp(start, UTC).strftime("%Y-%m-%d")
                yield day, day, start, min(midnight, end)
                start = midnight
            return
        keys = {
            By.RUN: (span.run, span.name or span.run),
            By.USER: (span.user, span.user),
            By.PROJECT: (span.project, span.project),
            By.NODE: (span.node, span.node),
        }
        yield *keys[self.by], start, end

    def report(
        self, machines: Iterable[MachineSpan] = (), names: Mapping[str, str] | None = None, *, limit: int
    ) -> CostReport:
        """The bill, dearest first (days in their order); `names` are what keys are called otherwise."""
        called = names or {}
        rows = [
            CostRow(
                key=key,
                label=called.get(key, line.label),
                cost=line.cost,
                seconds=line.seconds,
                tasks=line.tasks,
                user=line.user,
            )
            for key, line in self._sums.items()
        ]
        rows.sort(key=lambda row: (0.0 if self.by is By.DAY else -row.cost, row.key))
        shown = rows[-limit:] if self.by is By.DAY else rows[:limit]
        rest = rows[:-limit] if self.by is By.DAY else rows[limit:]
        idle = self._idle(machines)
        total = sum(row.cost for row in rows) + sum(one.cost for one in idle)
        return CostReport(
            by=self.by,
            since=self.since,
            until=self.until,
            rows=tuple(shown),
            rest=_rest(rest) if rest else None,
            idle=idle,
            total=total,
        )

    def _idle(self, machines: Iterable[MachineSpan]) -> tuple[IdleRow, ...]:
        fleets: defaultdict[str, float] = defaultdict(float)
        for machine in machines:
            start, end = self._clip(machine.start, machine.end)
            if end > start:
                paid = cost_of(machine.price, start, end)
                fleets[machine.fleet] += max(0.0, paid - self._nodes.get(machine.node, 0.0))
        return tuple(IdleRow(fleet=fleet, cost=cost) for fleet, cost in sorted(fleets.items()) if cost > 0)

    def _clip(self, start: float, end: float | None) -> tuple[float, float]:
        return max(start, self.since), min(self.now if end is None else end, self.until)


def cost_of(price: float, start: float, end: float) -> float:
    """A price per hour for a time in seconds."""
    return price * max(0.0, end - start) / 3600.0


def _rest(rows: Iterable[CostRow]) -> CostRow:
    listed = list(rows)
    return CostRow(
        key="",
        label=f"{len(listed)} more",
        cost=sum(row.cost for row in listed),
        seconds=sum(row.seconds for row in listed),
        tasks=sum(row.tasks for row in listed),
    )
