"""The one connection that writes. It can hold the database for itself, so that no second server works on it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import sqlalchemy as sa

from nexus.infra.records.group import Outcome, Transaction
from nexus.infra.records.table import as_text
from nexus.kernel.errors import ConflictError, UnavailableError
from nexus.kernel.events import Event, chain
from nexus.kernel.records import Change, Drop, Kind, Record

_EVENT_LOCK = 0x6E65787573  # "nexus": serialises commits that append events, so that `seq` never shows a gap that fills
_SERVER_LOCK = _EVENT_LOCK + 1
_CLOSING_S = 2.0  # what a server that is ending may still take to let go
_EVENT_COLUMNS = ("kind", "subject", "project", "at", "actor", "data", "digest")
_LAST_DIGEST = "SELECT digest FROM events ORDER BY seq DESC LIMIT 1"


class Writer:
    """Blocking; for one thread at a time. Statements go straight to the driver: they are few, and run all the time.

    Once it holds the database, it writes on the very connection that holds PostgreSQL's lock: when that is lost,
    nothing can be written any more that somebody else's server would not know of.
    """

    def __init__(self, engine: sa.Engine, tables: sa.MetaData) -> None:
        self._engine = engine
        self._tables = tables.tables
        self._is_sqlite = engine.dialect.name == "sqlite"
        self._raw: Any = None
        self._file: int | None = None  # the lock beside a SQLite file
        self._holds = False
        self._lost = False
        self._head: str | None = None  # the last event's digest; None: it has to be looked up
        self._statements: dict[tuple[str, str], tuple[str, Sequence[str] | None]] = {}

    # ------------------------------------------------------------------ alone

    def hold(self) -> None:
        """Keep every other server off this database until `close`. Raises ConflictError when one works there."""
        deadline = time.monotonic() + _CLOSING_S
        while not (self._lock_file() if self._is_sqlite else self._lock_database()):
            if time.monotonic() > deadline:
                where = self._engine.url.render_as_string(hide_password=True)
                hint = "Stop the other one, or give this one a database of its own: the setting `database`."
                raise ConflictError(f"another Nexus server works on the database {where}", hint=hint)
            time.sleep(0.05)
        self._holds = True

    def check(self) -> None:
        """See whether the database is still ours. Raises UnavailableError when it is not, which is for good."""
        if self._is_sqlite:
            return
        with contextlib.suppress(UnavailableError), self._unavailable():  # it may be back before anybody needs it
            self._connection().cursor().execute("SELECT 1")
            self._raw.rollback()
        if self._lost:
            self._connection()

    def close(self) -> None:
        """Let go."""
        if self._raw is not None:
            with contextlib.suppress(Exception):  # it may be broken already
                self._raw.invalidate()  # closed, not given back: with it goes the lock
            self._raw = None
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _lock_file(self) -> bool:
        path = self._engine.url.database
        if not path or path == ":memory:":
            return True
        if self._file is None:
            try:
                self._file = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                hint = "Check the setting `database` (NEXUS_DATABASE)."
                raise UnavailableError(f"cannot open the database {path}: {error.strerror}", hint=hint) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _lock_database(self) -> bool:
        with self._unavailable():
            cursor = self._connection().cursor()
            cursor.execute(f"SELECT pg_try_advisory_lock({_SERVER_LOCK})")
            taken = bool(cursor.fetchone()[0])
            self._raw.commit()
        return taken

    # ------------------------------------------------------------------ writing

    def write(self, batch: Sequence[Transaction]) -> list[Outcome]:
        """All in one transaction of the database, each whole or not at all. Raises UnavailableError: none of them."""
        for transaction in batch:
            transaction.stored = [_stored(change) for change in transaction.changes]
        with self._unavailable():
            try:
                self._write_whole(batch)
            except (ConflictError, self._integrity_error) as error:
                self._raw.rollback()
                self._head = None
                return [_conflict(error)] if len(batch) == 1 else self._write_each(batch)
        return [None] * len(batch)

    def forget_events(self, through: int) -> None:
        """Forget every event up to and with this `seq`. Raises UnavailableError."""
        statement = sa.delete(self._tables["events"]).where(self._tables["events"].c.seq <= through)
        with self._unavailable():
            self._begin().execute(str(statement.compile(self._engine, compile_kwargs={"literal_binds": True})))
            self._raw.commit()

    def _write_whole(self, batch: Sequence[Transaction]) -> None:
        """The usual case: nobody is in anybody's way."""
        cursor = self._begin()
        for transaction in batch:
            self._change(cursor, transaction)
        self._append(cursor, [event for transaction in batch for event in transaction.events])
        self._raw.commit()

    def _write_each(self, batch: Sequence[Transaction]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        cursor = self._begin()
        for transaction in batch:
            cursor.execute("SAVEPOINT one")
            try:
                self._change(cursor, transaction)
                self._append(cursor, transaction.events)
                outcomes.append(None)
            except (ConflictError, self._integrity_error) as error:
                cursor.execute("ROLLBACK TO SAVEPOINT one")
                self._head = None
                outcomes.append(_conflict(error))
            cursor.execute("RELEASE SAVEPOINT one")
        self._raw.commit()
        return outcomes

    def _begin(self) -> Any:
        cursor = self._connection().cursor()
        if self._is_sqlite:
            cursor.execute("BEGIN IMMEDIATE")
        return cursor

    def _change(self, cursor: Any, transaction: Transaction) -> None:
        for change, stored in zip(transaction.changes, transaction.stored, strict=True):
            kind, record = (change.kind, change.record) if isinstance(change, Drop) else change
            old = {"old_id": record.id, "old_version": record.version}
            if isinstance(change, Drop) or isinstance(stored, Drop):
                self._execute(cursor, kind.name, "delete", old)
            elif record.version == 0:
                self._execute(cursor, kind.name, "insert", _row(kind, stored[1]))
            else:
                self._execute(cursor, kind.name, "update", _row(kind, stored[1]) | old)
            if cursor.rowcount != 1:
                words = f"{kind.name} {record.id} was changed by somebody else"
                raise ConflictError(words, kind=kind.name, id=record.id)

    def _append(self, cursor: Any, events: Sequence[Event]) -> None:
        if not events:
            return
        if not self._is_sqlite and not self._holds:
            cursor.execute(f"SELECT pg_advisory_xact_lock({_EVENT_LOCK})")
        if self._head is None or not self._holds:  # without the hold somebody else may have appended
            cursor.execute(_LAST_DIGEST)
            last = cursor.fetchone()
            self._head = str(last[0]) if last else ""
        for event in events:
            self._head = chain(self._head, event)
            row = {
                "kind": event.kind,
                "subject": event.subject,
                "project": event.project,
                "at": event.at,
                "actor": event.actor,
                "data": msgspec.json.encode(event.data).decode(),
                "digest": self._head,
            }
            self._execute(cursor, "events", "insert", row)

    # ------------------------------------------------------------------ statements and the connection

    def _execute(self, cursor: Any, table: str, verb: str, values: dict[str, Any]) -> None:
        found = self._statements.get((table, verb))
        if found is None:
            found = self._statements[table, verb] = self._compile(self._tables[table], verb)
        text, order = found
        cursor.execute(text, values if order is None else [values[name] for name in order])

    def _compile(self, table: sa.Table, verb: str) -> tuple[str, Sequence[str] | None]:
        """The statement in the driver's own words, and the order of its values where they have no names."""
        here = (
            sa.and_(table.c.id == sa.bindparam("old_id"), table.c.version == sa.bindparam("old_version"))
            if (verb != "insert")
            else None
        )
        columns = list(_EVENT_COLUMNS) if table.name == "events" else [column.name for column in table.columns]
        statement: Any = sa.insert(table).inline()
        if here is not None:
            statement = sa.delete(table).where(here) if verb == "delete" else sa.update(table).where(here)
        compiled = statement.compile(dialect=self._engine.dialect, column_keys=None if verb == "delete" else columns)
        return str(compiled), compiled.positiontup if compiled.positional else None

    def _connection(self) -> Any:
        if self._lost:
            raise UnavailableError(
                "this server has lost its hold on the database", hint="It ends; start it again: nexus up."
            )
        if self._raw is None:
            self._raw = self._engine.raw_connection()
        return self._raw

    @property
    def _integrity_error(self) -> type[Exception]:
        found: type[Exception] = self._engine.dialect.loaded_dbapi.IntegrityError
        return found

    @contextlib.contextmanager
    def _unavailable(self) -> Iterator[None]:
        """The driver's errors as ours; nothing of the transaction stays."""
        try:
            yield
        except self._engine.dialect.loaded_dbapi.Error as error:
            raw, self._head = self._raw, None
            if raw is not None and self._engine.dialect.is_disconnect(error, raw.dbapi_connection, None):
                self._lost = self._holds and not self._is_sqlite
                self._raw = None
                raw.invalidate()
            elif raw is not None:
                raw.rollback()
            hint = "Is the disk full, or the database server down? Nothing was changed; the call may be repeated."
            raise UnavailableError(f"the database does not answer: {error}", hint=hint) from error


def _conflict(error: Exception) -> ConflictError:
    return error if isinstance(error, ConflictError) else ConflictError(f"somebody else was first: {error}")


def _stored(change: Change) -> Change:
    if isinstance(change, Drop):
        return change
    kind, record = change
    return (kind, replace(record, version=record.version + 1))


def _row(kind: Kind[Any], stored: Record) -> dict[str, Any]:
    return {
        "id": stored.id,
        "project": stored.project,
        "created": stored.created,
        "version": stored.version,
        **{name: as_text(getattr(stored, name)) for name in kind.index},
        "doc": msgspec.json.encode(stored).decode(),
    }
