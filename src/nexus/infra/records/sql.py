"""Records in SQLite or PostgreSQL: one table a kind, its indexed attributes as columns, the whole record as JSON.

SQLite runs in WAL mode with synchronous=NORMAL: what was committed survives `kill -9` of the server, and a power cut
leaves a consistent database that may miss the last moments. PostgreSQL keeps its own, stronger promise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from nexus.infra.records.threads import SqlThreads
from nexus.kernel.errors import ConflictError
from nexus.kernel.events import Event
from nexus.kernel.records import Drop, Kind, R, Record, Where

T = TypeVar("T")
_EVENT_LOCK = 0x6E65787573  # "nexus": serialises commits that append events, so that `seq` never shows a gap that fills


def build_tables(kinds: Sequence[Kind[Any]]) -> sa.MetaData:
    """The schema of `kinds` and of the events."""
    metadata = sa.MetaData()
    sa.Table(
        "events",
        metadata,
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False, index=True),
        sa.Column("project", sa.Text, nullable=False, index=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    for kind in kinds:
        columns = [sa.Column(name, sa.Text, index=True) for name in kind.index]
        unique = [sa.UniqueConstraint(*kind.unique, name=f"uq_{kind.name}")] if kind.unique else []
        sa.Table(
            kind.name,
            metadata,
            sa.Column("id", sa.Text, primary_key=True),
            sa.Column("project", sa.Text, nullable=False, index=True),
            sa.Column("created", sa.Double, nullable=False, index=True),
            sa.Column("version", sa.Integer, nullable=False),
            *columns,
            sa.Column("doc", sa.Text, nullable=False),
            *unique,
        )
    return metadata


def open_engine(url: str) -> sa.Engine:
    """An engine for `sqlite:///path` or `postgresql://...` (driver psycopg 3), with the settings we rely on."""
    if url.startswith(("postgresql://", "postgres://")):
        url = "postgresql+psycopg://" + url.split("://", 1)[1]
    engine = sa.create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _: Any) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=10000", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {pragma}")


class SqlRecords:
    """Implements `kernel.records.Records` on an engine whose schema `build_tables` describes.

    Blocking calls run in threads: one writer for SQLite (it has one write lock anyway), a few readers beside it.
    """

    def __init__(self, engine: sa.Engine, tables: sa.MetaData) -> None:
        self._engine = engine
        self._tables = tables.tables
        self._is_sqlite = engine.dialect.name == "sqlite"
        self._threads = SqlThreads(engine, "database", writers=1 if self._is_sqlite else 4)

    def close(self) -> None:
        """Wait for what runs, and close every connection."""
        self._threads.close()

    async def get(self, kind: Kind[R], record_id: str) -> R | None:
        table = self._tables[kind.name]
        query = sa.select(table.c.doc, table.c.version).where(table.c.id == record_id)
        rows = await self._threads.read(lambda connection: connection.execute(query).all())
        return _record(kind, *rows[0]) if rows else None

    async def find(
        self,
        kind: Kind[R],
        where: Where | None = None,
        *,
        limit: int = 1000,
        newest: bool = False,
        before: R | None = None,
    ) -> list[R]:
        table = self._tables[kind.name]
        order = sa.tuple_(table.c.created, table.c.id)
        query = sa.select(table.c.doc, table.c.version).limit(limit)
        for name, value in (where or {}).items():
            query = query.where(_equals(table.c[name], value))
        if before is not None:
            mark = sa.tuple_(sa.literal(before.created), sa.literal(before.id))
            query = query.where(order < mark if newest else order > mark)
        ends = (table.c.created.desc(), table.c.id.desc()) if newest else (table.c.created, table.c.id)
        query = query.order_by(*ends)  # decoded in the thread too: a large answer must not hold up the event loop
        return await self._threads.read(lambda connection: [_record(kind, *row) for row in connection.execute(query)])

    async def apply(self, *changes: tuple[Kind[Any], Record] | Drop, events: Sequence[Event] = ()) -> None:
        def write(connection: sa.Connection) -> None:
            for change in changes:
                self._change(connection, change)
            if events:
                self._append(connection, events)

        try:
            await self._threads.write(lambda: self._transaction(write))
        except sa.exc.IntegrityError as error:
            raise ConflictError(f"somebody else was first: {error.orig}") from error

    async def events(
        self,
        *,
        after: int = 0,
        subject: str | None = None,
        project: str | None = None,
        limit: int = 1000,
        newest: bool = False,
    ) -> list[Event]:
        table = self._tables["events"]
        query = sa.select(table).where(table.c.seq > after).limit(limit)
        if subject is not None:
            query = query.where(table.c.subject == subject)
        if project is not None:
            query = query.where(table.c.project == project)
        query = query.order_by(table.c.seq.desc() if newest else table.c.seq)
        rows = await self._threads.read(lambda connection: connection.execute(query).mappings().all())
        return [Event(**{**row, "data": msgspec.json.decode(row["data"])}) for row in rows]

    def _change(self, connection: sa.Connection, change: tuple[Kind[Any], Record] | Drop) -> None:
        kind, record = (change.kind, change.record) if isinstance(change, Drop) else change
        table = self._tables[kind.name]
        here = sa.and_(table.c.id == record.id, table.c.version == record.version)
        if isinstance(change, Drop):
            done = connection.execute(sa.delete(table).where(here)).rowcount
        elif record.version == 0:
            connection.execute(sa.insert(table).values(_row(kind, record)))
            done = 1
        else:
            done = connection.execute(sa.update(table).where(here).values(_row(kind, record))).rowcount
        if done != 1:
            raise ConflictError(f"{kind.name} {record.id} was changed by somebody else", kind=kind.name, id=record.id)

    def _append(self, connection: sa.Connection, events: Sequence[Event]) -> None:
        if not self._is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_EVENT_LOCK)))
        rows = [
            {
                "kind": event.kind,
                "subject": event.subject,
                "project": event.project,
                "at": event.at,
                "actor": event.actor,
                "data": msgspec.json.encode(event.data).decode(),
            }
            for event in events
        ]
        connection.execute(sa.insert(self._tables["events"]), rows)

    def _transaction(self, work: Callable[[sa.Connection], T]) -> T:
        with self._engine.connect() as connection:
            if self._is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            result = work(connection)
            connection.commit()
            return result


def _row(kind: Kind[Any], record: Record) -> dict[str, Any]:
    stored = replace(record, version=record.version + 1)
    indexed = {name: _text(getattr(record, name)) for name in kind.index}
    return {
        "id": stored.id,
        "project": stored.project,
        "created": stored.created,
        "version": stored.version,
        **indexed,
        "doc": msgspec.json.encode(stored).decode(),
    }


def _record(kind: Kind[R], doc: str, version: int) -> R:
    return replace(msgspec.json.decode(doc, type=kind.type), version=version)


def _text(value: Any) -> str | None:
    """Indexed attributes are compared as text, whatever their type: equality is all that queries ask."""
    if value is None:
        return None
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _equals(column: sa.Column[Any], value: Any) -> sa.ColumnElement[bool]:
    is_number_column = column.name == "created"
    if value is None:
        return column.is_(None)
    if isinstance(value, str | int | float | bool):
        return column == (value if is_number_column else _text(value))
    among = column.in_([_text(one) for one in value if one is not None])
    return sa.or_(among, column.is_(None)) if None in value else among
