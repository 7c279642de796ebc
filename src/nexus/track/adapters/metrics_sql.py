"""Implements `ports.MetricStore` on SQLite (a file of its own, WAL) and PostgreSQL, through SQLAlchemy Core.

One thread writes. Everything that arrives while it commits goes into its next transaction (group commit), so a commit's
cost is shared, and many small pieces of a series become one chunk. `append` returns after COMMIT: on SQLite with
synchronous=NORMAL that survives `kill -9`, and a power cut may cost the last seconds.

Slow series make small chunks; when a series ends in MERGE_AT of them, they become one in the same transaction.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from nexus.infra.records.sql import open_engine
from nexus.infra.records.threads import SqlThreads
from nexus.kernel.errors import NotFoundError
from nexus.track.adapters import metrics_tables as t
from nexus.track.adapters.metrics_write import Writer
from nexus.track.core.points import CHUNK_MAX, SKETCH_EVERY, cut, extend, points, thin, unpack
from nexus.track.model import Batch, Points, Series

_SKETCH_FROM = SKETCH_EVERY // 2  # sketches are used for a chart when a series has this many points per point drawn


class SqlMetrics:
    """Metrics behind one engine. One server process at a time may write to it."""

    def __init__(self, engine: sa.Engine) -> None:
        self._writer = Writer(engine)
        self._waiting: list[tuple[Batch, asyncio.Future[int]]] = []
        self._committing: asyncio.Task[None] | None = None
        self._threads = SqlThreads(engine, "metrics database", writers=1)

    def close(self) -> None:
        """Wait for what runs, and close every connection."""
        self._threads.close()

    # ------------------------------------------------------------------ writing

    async def append(self, batch: Batch) -> int:
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((batch, done))
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._commit())
        return await done

    async def _commit(self) -> None:
        """Commit what waits, until nothing does."""
        while self._waiting:
            group, self._waiting = self._waiting, []
            batches = [batch for batch, _ in group]
            try:
                ends = await self._threads.write(lambda some=batches: self._writer.commit(some))  # type: ignore[misc]
            except Exception as error:
                ends = [error] * len(group)
            for (_, done), end in zip(group, ends, strict=True):
                if done.done():
                    continue  # whoever asked has gone
                if isinstance(end, int):
                    done.set_result(end)
                else:
                    done.set_exception(end)

    # ------------------------------------------------------------------ reading

    async def end(self, task: str, stream: str) -> int:
        query = sa.select(t.stream.c.end).where(t.stream.c.task == task, t.stream.c.name == stream)
        return await self._threads.read(lambda connection: connection.execute(query).scalar()) or 0

    async def series(self, runs: Sequence[str]) -> list[Series]:
        query = sa.select(t.series).where(t.series.c.run.in_(runs))
        query = query.order_by(t.series.c.run, t.series.c.key, t.series.c.id)
        rows = await self._threads.read(lambda connection: connection.execute(query).mappings().all())
        return [_series(row) for row in rows]

    async def points(self, series: str, *, after: int = 0, limit: int = 10_000) -> Points:
        chunk = t.chunk.c
        query = sa.select(chunk.seq, chunk.points).where(chunk.series == int(series), chunk.seq > after - CHUNK_MAX)
        query = query.order_by(chunk.seq)

        def read(connection: sa.Connection) -> Points:
            found = points()
            with connection.execution_options(yield_per=16).execute(query) as rows:
                for seq, blob in rows:
                    part = unpack(blob)
                    if seq + len(part) > after:
                        extend(found, cut(part, max(0, after - seq), len(part)))
                    if len(found) >= limit:
                        break
            return cut(found, 0, limit)

        return await self._threads.read(read)

    async def chart(self, series: str, count: int) -> Points:
        return await self._threads.read(lambda connection: _chart(connection, int(series), count))

    async def params(self, run: str) -> dict[str, Any]:
        query = sa.select(t.param.c.name, t.param.c.value).where(t.param.c.run == run).order_by(t.param.c.name)
        rows = await self._threads.read(lambda connection: connection.execute(query).all())
        return {name: msgspec.json.decode(value) for name, value in rows}


def open_metrics(url: str) -> SqlMetrics:
    """Metrics at `sqlite:///path/metrics.db` or `postgresql://...`; its tables are made where they are missing."""
    engine = open_engine(url)
    t.metadata.create_all(engine)
    return SqlMetrics(engine)


def _chart(connection: sa.Connection, series: int, count: int) -> Points:
    n = connection.execute(sa.select(t.series.c.n).where(t.series.c.id == series)).scalar()
    if n is None:
        raise NotFoundError("no such series")
    blob = t.chunk.c.sketch if n > count * _SKETCH_FROM else t.chunk.c.points
    found = points()
    for (part,) in connection.execute(sa.select(blob).where(t.chunk.c.series == series).order_by(t.chunk.c.seq)):
        extend(found, unpack(part))
    return thin(found, count)


def _series(row: Any) -> Series:
    numbers = {name: math.nan if row[name] is None else row[name] for name in ("value", "low", "high")}
    return Series(**{**row, **numbers, "id": str(row["id"])})
