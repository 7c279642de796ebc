"""Records in memory: for simulations, tests and throw-away servers. Same promises as SQL, but for the disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from nexus.infra.records.listeners import Listeners
from nexus.infra.records.table import Table
from nexus.kernel.errors import ConflictError
from nexus.kernel.events import Event, chain
from nexus.kernel.records import Change, Drop, Kind, Listener, R, Record, Where


class MemoryRecords:
    """A table per kind and a list of events."""

    def __init__(self) -> None:
        self._tables: dict[str, Table[Any]] = {}
        self._events: list[Event] = []
        self._seq, self._head = 0, ""  # of the last event
        self._listeners = Listeners()

    def listen(self, listener: Listener) -> Callable[[], None]:
        return self._listeners.add(listener)

    async def get(self, kind: Kind[R], record_id: str) -> R | None:
        found = self._table(kind).rows.get(record_id)
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
        return self._table(kind).find(where, limit=limit, newest=newest, before=before)

    async def apply(self, *changes: Change, events: Sequence[Event] = ()) -> None:
        for change in changes:
            self._check(change)
        stored: list[Change] = []
        for change in changes:
            if isinstance(change, Drop):
                self._table(change.kind).pop(change.record.id)
                stored.append(change)
            else:
                kind, record = change
                after = replace(record, version=record.version + 1)
                self._table(kind).put(after)
                stored.append((kind, after))
        for event in events:
            self._seq, self._head = self._seq + 1, chain(self._head, event)
            self._events.append(replace(event, seq=self._seq, digest=self._head))
        self._listeners.tell(stored, events)

    def _table(self, kind: Kind[R]) -> Table[R]:
        table = self._tables.get(kind.name)
        if table is None:
            table = self._tables[kind.name] = Table(kind)
        return table

    def _check(self, change: Change) -> None:
        kind, record = (change.kind, change.record) if isinstance(change, Drop) else change
        table: Table[Record] = self._table(kind)
        stored = table.rows.get(record.id)
        if (stored.version if stored else 0) != record.version:
            raise ConflictError(f"{kind.name} {record.id} was changed by somebody else", kind=kind.name, id=record.id)
        if kind.unique and not isinstance(change, Drop):
            mine = {name: getattr(record, name) for name in kind.unique}
            if any(other.id != record.id for other in table.find(mine, limit=2)):
                words = ", ".join(f"{name} {value!r}" for name, value in mine.items())
                raise ConflictError(f"there already is a {kind.name} with {words}")

    async def events(
        self,
        *,
        after: int = 0,
        before: int | None = None,
        subject: str | None = None,
        project: str | None = None,
        actor: str | None = None,
        since: float | None = None,
        limit: int = 1000,
        newest: bool = False,
    ) -> list[Event]:
        rows = self._events[::-1] if newest else self._events
        picked = (
            event
            for event in rows
            if event.seq > after
            and (before is None or event.seq < before)
            and subject in {None, event.subject}
            and project in {None, event.project}
            and actor in {None, event.actor}
            and (since is None or event.at >= since)
        )
        return [event for event, _ in zip(picked, range(limit), strict=False)]

    async def forget_events(self, through: int) -> None:
        self._events = [event for event in self._events if event.seq > through]
