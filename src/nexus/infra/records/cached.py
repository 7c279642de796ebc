"""The records that a server's loops ask for all the time, kept in memory beside the store that remembers them.

Right only where nobody else writes to the store (see `SqlRecords.hold`): everything that is committed comes by here,
in order, before whoever committed it goes on. What is kept says each kind's `hot`; all else is asked of the store.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from nexus.infra.records.table import Table, as_text, texts
from nexus.kernel.errors import ConflictError
from nexus.kernel.events import Event
from nexus.kernel.records import Change, Drop, Kind, Listener, R, Record, Records, Where

_PAGE = 5000
_RECENT = 2000


class CachedRecords:
    """Implements `kernel.records.Records` over another implementation."""

    def __init__(self, store: Records, kinds: Iterable[Kind[Any]]) -> None:
        self._store = store
        self._tables = {kind.name: _Hot(kind) for kind in kinds if kind.hot is not None}
        self._recent: OrderedDict[tuple[str, str], Record] = OrderedDict()  # those that have just left the tables
        store.listen(self._heard)

    async def load(self) -> None:
        """Read what is hot, before anything is written."""
        for table in self._tables.values():
            last: Record | None = None
            while page := await self._store.find(table.kind, table.kind.hot, limit=_PAGE, before=last):
                for record in page:
                    table.put(record)
                last = page[-1]

    def listen(self, listener: Listener) -> Callable[[], None]:
        return self._store.listen(listener)

    async def get(self, kind: Kind[R], record_id: str) -> R | None:
        table = self._tables.get(kind.name)
        if table is None:
            return await self._store.get(kind, record_id)
        found = table.rows.get(record_id) or self._recent.get((kind.name, record_id))
        if isinstance(found, kind.type):
            return found
        return None if table.is_whole else await self._store.get(kind, record_id)

    async def find(
        self,
        kind: Kind[R],
        where: Where | None = None,
        *,
        limit: int = 1000,
        newest: bool = False,
        before: R | None = None,
    ) -> list[R]:
        table = self._tables.get(kind.name)
        if table is not None and table.answers(where or {}):
            return table.find(where, limit=limit, newest=newest, before=before)
        return await self._store.find(kind, where, limit=limit, newest=newest, before=before)

    async def apply(self, *changes: Change, events: Sequence[Event] = ()) -> None:
        for change in changes:
            self._check(change)
        await self._store.apply(*changes, events=events)

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
        return await self._store.events(
            after=after,
            before=before,
            subject=subject,
            project=project,
            actor=actor,
            since=since,
            limit=limit,
            newest=newest,
        )

    async def forget_events(self, through: int) -> None:
        await self._store.forget_events(through)

    def _check(self, change: Change) -> None:
        """Refuse at once what is certainly late. What is ahead may build on a change that is under way."""
        kind, record = (change.kind, change.record) if isinstance(change, Drop) else change
        table = self._tables.get(kind.name)
        known = table.rows.get(record.id) if table is not None else None
        if known is not None and known.version > record.version:
            raise ConflictError(f"{kind.name} {record.id} was changed by somebody else", kind=kind.name, id=record.id)

    def _heard(self, changes: Sequence[Change], _: Sequence[Event]) -> None:
        for change in changes:
            kind, record = (change.kind, change.record) if isinstance(change, Drop) else change
            table = self._tables.get(kind.name)
            if table is None:
                continue
            key = (kind.name, record.id)
            if not isinstance(change, Drop) and table.is_hot(record):
                self._recent.pop(key, None)
                table.put(record)
                continue
            table.pop(record.id)
            self._recent.pop(key, None)
            if not isinstance(change, Drop):
                self._recent[key] = record
        while len(self._recent) > _RECENT:
            self._recent.popitem(last=False)


class _Hot(Table[Any]):
    """The hot records of a kind."""

    def __init__(self, kind: Kind[Any]) -> None:
        super().__init__(kind)
        self._hot = {name: texts(value) for name, value in (kind.hot or {}).items()}

    @property
    def is_whole(self) -> bool:
        """Whether every record of the kind is here."""
        return not self._hot

    def is_hot(self, record: Record) -> bool:
        return all(as_text(getattr(record, name)) in values for name, values in self._hot.items())

    def answers(self, where: Where) -> bool:
        """Whether every record that `where` may find is here."""
        return all(name in where and texts(where[name]) <= values for name, values in self._hot.items())
