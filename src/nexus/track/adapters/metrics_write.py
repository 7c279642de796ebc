"""The writing half of `metrics_sql`: a group of batches in one transaction. Runs in one thread."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import sqlalchemy as sa

from nexus.kernel.errors import ConflictError
from nexus.track.adapters import metrics_tables as t
from nexus.track.core.points import CHUNK_MAX, cut, extend, extent, pack, points, sketch, unpack
from nexus.track.model import Batch, Points, StreamOwner

MERGE_AT = 64
_SMALL = 1024  # points; smaller chunks at a series' end are merged
_KNOWN_MAX = 50_000

Row = dict[str, Any]


@dataclass
class _State:
    """What the writer knows of a series without asking the database."""

    id: int
    n: int
    low: float
    high: float
    small: list[tuple[int, int]] = field(default_factory=list)  # (seq, n) of the small chunks at its end


@dataclass
class _Work:
    """What one transaction will write."""

    ends: dict[tuple[str, str], int] = field(default_factory=dict)
    points: dict[tuple[str, str], tuple[StreamOwner, Points]] = field(default_factory=dict)  # by (task, key)
    params: dict[tuple[str, str], str] = field(default_factory=dict)  # by (run, name)
    series: list[Row] = field(default_factory=list)
    updates: list[Row] = field(default_factory=list)
    chunks: list[Row] = field(default_factory=list)


class Writer:
    """Turns groups of batches into rows."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._is_sqlite = engine.dialect.name == "sqlite"
        self._known: dict[tuple[str, str], _State] = {}
        self._next_id = 0

    def commit(self, batches: Sequence[Batch]) -> list[int | Exception]:
        """Store all batches that fit their streams; for each, its end, or the ConflictError that says what is there."""
        try:
            with self._engine.connect() as connection:
                if self._is_sqlite:
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                results = self._store(connection, batches)
                connection.commit()
                return results
        except BaseException:
            self._known.clear()  # it may know of rows that were not committed
            self._next_id = 0
            raise

    def _store(self, connection: sa.Connection, batches: Sequence[Batch]) -> list[int | Exception]:
        work = _Work()
        if not self._next_id:
            self._next_id = connection.execute(sa.select(sa.func.max(t.series.c.id))).scalar() or 0
        results = [self._take(connection, work, batch) for batch in batches]
        self._learn(connection, work)
        for key, (owner, new) in work.points.items():
            self._add(work, key, owner, new)
        _insert(connection, t.series, work.series)
        _insert(connection, t.chunk, work.chunks)
        if work.updates:
            connection.execute(_UPDATE_SERIES, work.updates)
        for key in work.points:
            state = self._known[key]
            if len(state.small) >= MERGE_AT:
                _merge(connection, state)
        self._upsert(connection, t.stream, [{"task": a, "name": b, "end": end} for (a, b), end in work.ends.items()])
        self._upsert(connection, t.param, [{"run": a, "name": b, "value": v} for (a, b), v in work.params.items()])
        return results

    def _take(self, connection: sa.Connection, work: _Work, batch: Batch) -> int | Exception:
        key = (batch.owner.task, batch.stream)
        end = work.ends.get(key)
        if end is None:
            query = sa.select(t.stream.c.end).where(t.stream.c.task == key[0], t.stream.c.name == key[1])
            end = connection.execute(query if self._is_sqlite else query.with_for_update()).scalar() or 0
        if batch.start != end:
            return conflict(batch, end)
        work.ends[key] = batch.end
        for name, new in batch.points.items():
            held = work.points.setdefault((batch.owner.task, name), (batch.owner, points()))[1]
            extend(held, new)
        for name, value in batch.params.items():
            work.params[batch.owner.run, name] = msgspec.json.encode(value).decode()
        return batch.end

    def _learn(self, connection: sa.Connection, work: _Work) -> None:
        """Load the series that this transaction touches and the writer does not know yet."""
        if len(self._known) > _KNOWN_MAX:
            self._known.clear()
        tasks = sorted({task for task, key in work.points if (task, key) not in self._known})
        if not tasks:
            return
        s = t.series.c
        query = sa.select(s.task, s.key, s.id, s.n, s.low, s.high).where(s.task.in_(tasks))
        for task, key, series, n, low, high in connection.execute(query).all():
            if (task, key) in work.points and (task, key) not in self._known:
                state = _State(series, n, _nan(low), _nan(high))
                state.small = _small(connection, series)
                self._known[task, key] = state

    def _add(self, work: _Work, key: tuple[str, str], owner: StreamOwner, new: Points) -> None:
        low, high = extent(new.values)
        state = self._known.get(key)
        fresh = state is None
        if state is None:
            self._next_id += 1
            state = self._known[key] = _State(self._next_id, 0, math.nan, math.nan)
        for start in range(0, len(new), CHUNK_MAX):
            part = cut(new, start, start + CHUNK_MAX)
            work.chunks.append(chunk_row(state.id, state.n, part))
            if len(part) < _SMALL:
                state.small.append((state.n, len(part)))
            else:
                state.small.clear()
            state.n += len(part)
        state.low, state.high = _least(state.low, low), -_least(-state.high, -high)
        row = {
            "n": state.n,
            "step": new.steps[-1],
            "at": new.times[-1],
            "value": _null(new.values[-1]),
            "low": _null(state.low),
            "high": _null(state.high),
        }
        if fresh:
            whose = {"run": owner.run, "task": owner.task, "role": owner.role, "attempt": owner.attempt}
            work.series.append({"id": state.id, "key": key[1], "index": owner.index, **whose, **row})
        else:
            work.updates.append({"_id": state.id, **{f"_{name}": value for name, value in row.items()}})

    def _upsert(self, connection: sa.Connection, table: sa.Table, rows: list[Row]) -> None:
        if not rows:
            return
        keys = [column.name for column in table.primary_key]
        insert = _insert_or(table, is_sqlite=self._is_sqlite)
        changed = {column.name: insert.excluded[column.name] for column in table.columns if column.name not in keys}
        connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=changed), rows)


_UPDATE_SERIES = (
    sa.update(t.series)
    .where(t.series.c.id == sa.bindparam("_id"))
    .values({name: sa.bindparam(f"_{name}") for name in ("n", "step", "at", "value", "low", "high")})
)


def chunk_row(series: int, seq: int, part: Points) -> Row:
    """One chunk as a row."""
    low, high = extent(part.values)
    return {
        "series": series,
        "seq": seq,
        "n": len(part),
        "step0": part.steps[0],
        "step1": part.steps[-1],
        "low": _null(low),
        "high": _null(high),
        "sketch": pack(sketch(part)),
        "points": pack(part),
    }


def conflict(batch: Batch, end: int) -> ConflictError:
    """A piece that does not begin where its stream ends."""
    return ConflictError(
        f"the stream {batch.stream} of {batch.owner.task} ends at {end}, not at {batch.start}",
        hint=f"Send from byte {end} on.",
        expected=end,
    )


def _small(connection: sa.Connection, series: int) -> list[tuple[int, int]]:
    """The run of small chunks at a series' end, oldest first."""
    query = sa.select(t.chunk.c.seq, t.chunk.c.n).where(t.chunk.c.series == series)
    found: list[tuple[int, int]] = []
    for seq, n in connection.execute(query.order_by(t.chunk.c.seq.desc()).limit(MERGE_AT)).all():
        if n >= _SMALL:
            break
        found.append((seq, n))
    return found[::-1]


def _merge(connection: sa.Connection, state: _State) -> None:
    """Make one of the small chunks at the end of a series (or a few, of CHUNK_MAX points)."""
    first = state.small[0][0]
    here = sa.and_(t.chunk.c.series == state.id, t.chunk.c.seq >= first)
    whole = points()
    for (blob,) in connection.execute(sa.select(t.chunk.c.points).where(here).order_by(t.chunk.c.seq)).all():
        extend(whole, unpack(blob))
    connection.execute(sa.delete(t.chunk).where(here))
    rows = [chunk_row(state.id, first + i, cut(whole, i, i + CHUNK_MAX)) for i in range(0, len(whole), CHUNK_MAX)]
    _insert(connection, t.chunk, rows)
    last = rows[-1]
    state.small = [(last["seq"], last["n"])] if last["n"] < _SMALL else []


def _insert(connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        connection.execute(sa.insert(table), rows)


def _least(old: float, new: float) -> float:
    return new if math.isnan(old) or new < old else old


def _null(value: float) -> float | None:
    return None if math.isnan(value) else value


def _nan(value: float | None) -> float:
    return math.nan if value is None else value


def _insert_or(table: sa.Table, *, is_sqlite: bool) -> Any:
    """An insert that may say what to do on a conflict. Only the database's own dialect is imported."""
    if is_sqlite:
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)
