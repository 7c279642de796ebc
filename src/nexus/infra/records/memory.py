"""Records in memory: for simulations, tests and throw-away servers. Same promises as SQL, but for the disk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nexus.kernel.errors import ConflictError
from nexus.kernel.events import Event
from nexus.kernel.records import Drop, Kind, R, Record, Value, Where


class MemoryRecords:
    """A dictionary per kind and a list of events."""

    def __init__(self) -> None:
        self._tables: defaultdict[str, dict[str, Record]] = defaultdict(dict)
        self._events: list[Event] = []

    async def get(self, kind: Kind[R], record_id: str) -> R | None:
        found = self._tables[kind.name].get(record_id)
        return found if isinstance(found, kind.type) else None

    async def find(
        self,
        kind: Kind[R],
        where: Where | None = None,
        *,
        limit: int = 1000,
        newest: bool = False,
        before: R | None = None,
    ) -> list[R]:
        wanted = [(name, _values(value)) for name, value in (where or {}).items()]
        rows = [
            row
            for row in self._tables[kind.name].values()
            if isinstance(row, kind.type) and all(getattr(row, name) in values for name, values in wanted)
        ]
        rows.sort(key=_order, reverse=newest)
        if before is not None:
            mark = _order(before)
            rows = [row for row in rows if (_order(row) < mark if newest else _order(row) > mark)]
        return rows[:limit]

    async def apply(self, *changes: tuple[Kind[Any], Record] | Drop, events: Sequence[Event] = ()) -> None:
        for change in changes:
            self._check(change)
        for change in changes:
            if isinstance(change, Drop):
                del self._tables[change.kind.name][change.record.id]
            else:
                kind, record = change
                self._tables[kind.name][record.id] = replace(record, version=record.version + 1)
        for event in events:
            self._events.append(replace(event, seq=len(self._events) + 1))

    def _check(self, change: tuple[Kind[Any], Record] | Drop) -> None:
        kind, record = (change.kind, change.record) if isinstance(change, Drop) else change
        table = self._tables[kind.name]
        stored = table.get(record.id)
        if (stored.version if stored else 0) != record.version:
            raise ConflictError(f"{kind.name} {record.id} was changed by somebody else", kind=kind.name, id=record.id)
        if kind.unique and not isinstance(change, Drop):
            mine = [getattr(record, name) for name in kind.unique]
            for other in table.values():
                if other.id != record.id and [getattr(other, name) for name in kind.unique] == mine:
                    raise ConflictError(f"there already is a {kind.name} with {_words(kind.unique, mine)}")

    async def events(
        self,
        *,
        after: int = 0,
        subject: str | None = None,
        project: str | None = None,
        limit: int = 1000,
        newest: bool = False,
    ) -> list[Event]:
        rows = self._events[::-1] if newest else self._events[after:]
        picked = (
            event
            for event in rows
            if event.seq > after and subject in {None, event.subject} and project in {None, event.project}
        )
        return [event for event, _ in zip(picked, range(limit), strict=False)]


def _values(value: Value | Sequence[Value]) -> tuple[Value, ...]:
    return (value,) if value is None or isinstance(value, str | int | float | bool) else tuple(value)


def _order(record: Record) -> tuple[float, str]:
    return (record.created, record.id)


def _words(names: Sequence[str], values: Sequence[Any]) -> str:
    return ", ".join(f"{name} {value!r}" for name, value in zip(names, values, strict=True))
