"""Records in SQLite or PostgreSQL: one table a kind, its indexed attributes as columns, the whole record as JSON.

SQLite runs in WAL mode with synchronous=NORMAL: what was committed survives `kill -9` of the server, and a power cut
leaves a consistent database that may miss the last moments. PostgreSQL keeps its own, stronger promise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from nexus.infra.records.group import GroupCommit, Outcome, Transaction
from nexus.infra.records.listeners import Listeners
from nexus.infra.records.table import as_text
from nexus.infra.records.threads import SqlThreads
from nexus.infra.records.writer import Writer
from nexus.kernel.events import Event
from nexus.kernel.records import Change, Kind, Listener, R, Where

T = TypeVar("T")


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
        sa.Column("digest", sa.Text, nullable=False, server_default=""),
        sqlite_autoincrement=True,
    )
    for kind in kinds:
        columns = [sa.Column(name, sa.Text, index=True) for name in kind.index]
        pages = [sa.Index(f"ix_{kind.name}_pages", "project", "created", "id")] if kind.paged else []
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
            *pages,
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

    Blocking calls run in threads: one writes, what was handed in meanwhile together; a few read beside it.
    """

    def __init__(self, engine: sa.Engine, tables: sa.MetaData) -> None:
        self._tables = tables.tables
        self._threads = SqlThreads(engine, "database", writers=1)
        self._writer = Writer(engine, tables)
        self._listeners = Listeners()
        self._commits = GroupCommit(self._write, self._listeners.tell)

    def hold(self) -> None:
        """Keep every other server off this database until `close`. Raises ConflictError, UnavailableError."""
        self._writer.hold()

    async def check(self) -> None:
        """See whether the database is still held. Raises UnavailableError when it was lost: this server must end."""
        await self._threads.write(self._writer.check)

    def close(self) -> None:
        """Wait for what runs, and close every connection."""
        self._threads.close(self._writer.close)

    def listen(self, listener: Listener) -> Callable[[], None]:
        return self._listeners.add(listener)

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

    async def apply(self, *changes: Change, events: Sequence[Event] = ()) -> None:
        if changes or events:
            await self._commits.apply(Transaction(changes, events))

    async def forget_events(self, through: int) -> None:
        await self._threads.write(lambda: self._writer.forget_events(through))

    async def _write(self, batch: Sequence[Transaction]) -> Sequence[Outcome]:
        return await self._threads.write(lambda: self._writer.write(batch))

    async def read(self, question: Callable[[sa.Connection, Mapping[str, sa.Table]], T]) -> T:
        """What a question to the tables themselves answers: sums over many records, which `find` is not for."""
        return await self._threads.read(lambda connection: question(connection, self._tables))

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
        table = self._tables["events"]
        query = sa.select(table).where(table.c.seq > after).limit(limit)
        if before is not None:
            query = query.where(table.c.seq < before)
        if since is not None:
            query = query.where(table.c.at >= since)
        for column, value in ((table.c.subject, subject), (table.c.project, project), (table.c.actor, actor)):
            if value is not None:
                query = query.where(column == value)
        query = query.order_by(table.c.seq.desc() if newest else table.c.seq)
        rows = await self._threads.read(lambda connection: connection.execute(query).mappings().all())
        return [Event(**{**row, "data": msgspec.json.decode(row["data"])}) for row in rows]


def _record(kind: Kind[R], doc: str, version: int) -> R:
    return replace(msgspec.json.decode(doc, type=kind.type), version=version)


def _equals(column: sa.Column[Any], value: Any) -> sa.ColumnElement[bool]:
    is_number_column = column.name == "created"
    if value is None:
        return column.is_(None)
    if isinstance(value, str | int | float | bool):
        return column == (value if is_number_column else as_text(value))
    among = column.in_([as_text(one) for one in value if one is not None])
    return sa.or_(among, column.is_(None)) if None in value else among
