"""Metrics: taken from agents as stream files grow, read as charts, tables and live points."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from nexus.infra.hints import Hints
from nexus.kernel.errors import ConflictError, NotFoundError, UsageError
from nexus.kernel.identity import Principal
from nexus.track import frames
from nexus.track.core.params import read_params
from nexus.track.core.points import extend, points
from nexus.track.model import Batch, Points, Series, StreamOwner, check_stream_name, read_cursor, write_cursor
from nexus.track.ports import MetricStore
from nexus.track.service.access import Access

CHART_POINTS = 1500
CHART_MAX = 20_000
_POINTS_MAX = 10_000  # of one series in one answer
_POLL_S = 1.0
_NOTHING = "none.0"  # a cursor that has seen no series: what comes is given whole, not thinned


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a run has logged: its series, its parameters, and the cursor from which new points can be followed."""

    series: tuple[Series, ...]
    params: dict[str, Any]
    cursor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Points of one series. `after` continues behind them when they were read and not thinned."""

    series: Series
    points: Points
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """New points of a run, and the cursor after them. `end`: the run is over and this was everything."""

    curves: tuple[Curve, ...]
    cursor: str
    end: bool = False


class Metrics:
    """The numbers and parameters of all runs."""

    def __init__(self, access: Access, store: MetricStore, hints: Hints) -> None:
        self._access = access
        self._store = store
        self._hints = hints

    async def append(self, owner: StreamOwner, stream: str, offset: int, data: bytes) -> int:
        """Take the bytes that begin at `offset` of one stream file; returns up to where the stream is done with.

        What comes twice is skipped; what is no whole frame yet is not taken, so it has to be sent again with what
        follows. Raises ConflictError (`expected` in its details) if bytes before are missing.
        """
        if offset < 0:
            raise UsageError("an offset is not negative")
        end = await self._store.end(owner.task, check_stream_name(stream))
        if offset > end:
            raise ConflictError(
                f"bytes {end}..{offset} of {stream} are missing", hint=f"Send from byte {end} on.", expected=end
            )
        found = frames.scan(data[end - offset :])
        if not found.consumed:
            return end
        await self._access.remember(owner)
        end = await self._store.append(_batch(owner, stream, end, found))
        self._hints.hint(f"metrics:{owner.run}")
        return end

    async def summary(self, principal: Principal, run: str) -> Summary:
        """Every series with its last value, without touching their points. Raises NotFoundError."""
        status = await self._access.run(principal, run)
        series = await self._store.series([status.id])
        params = await self._store.params(status.id)
        return Summary(series=tuple(series), params=params, cursor=_cursor(series))

    async def latest(self, principal: Principal, runs: Sequence[str]) -> dict[str, dict[str, float]]:
        """The newest value of every key, for many runs (ids) at once: the columns of a table of runs.

        Unknown runs and other projects' have no entry.
        """
        seen = [run for run in runs if await self._may_see(principal, run)]
        found: dict[str, dict[str, float]] = {run: {} for run in seen}
        newest: dict[tuple[str, str], float] = {}
        for series in await self._store.series(seen):
            if series.at >= newest.get((series.run, series.key), float("-inf")):
                newest[series.run, series.key] = series.at
                found[series.run][series.key] = series.value
        return found

    async def chart(
        self, principal: Principal, run: str, key: str, *, points: int = CHART_POINTS, after: int | None = None
    ) -> list[Curve]:
        """One curve for each task that logged `key`: thinned to about `points`, or all from point `after` on.

        Raises NotFoundError.
        """
        status = await self._access.run(principal, run)
        every = await self._store.series([status.id])
        chosen = [series for series in every if series.key == key]
        if not chosen:
            names = ", ".join(sorted({series.key for series in every})[:20]) or "nothing yet"
            raise NotFoundError(f"the run {status.name} has not logged {key!r}", hint=f"It has logged: {names}.")
        curves = []
        for series in chosen:
            if after is None:
                found = await self._store.chart(series.id, min(max(points, 2), CHART_MAX))
                curves.append(Curve(series=series, points=found, after=series.n))
            else:
                found = await self._store.points(series.id, after=after, limit=_POINTS_MAX)
                curves.append(Curve(series=series, points=found, after=after + len(found)))
        return curves

    async def news(self, principal: Principal, run: str, cursor: str = "", *, points: int = CHART_POINTS) -> News:
        """What came since `cursor`; without one, every history in about `points` points. Raises NotFoundError."""
        status = await self._access.run(principal, run)  # `ended` is read before the points, so nothing is missed
        at = read_cursor(cursor)
        curves = []
        for series in await self._store.series([status.id]):
            start = at.get(series.id, 0)
            if series.n == start:
                continue
            if cursor:
                new = await self._store.points(series.id, after=start, limit=_POINTS_MAX)
                at[series.id] = start + len(new)
            else:
                new = await self._store.chart(series.id, min(max(points, 2), CHART_MAX))
                at[series.id] = series.n
            curves.append(Curve(series=series, points=new, after=at[series.id]))
        return News(curves=tuple(curves), cursor=write_cursor(at), end=status.ended and not curves)

    async def follow(self, principal: Principal, run: str, cursor: str | None = None) -> AsyncIterator[News]:
        """New points as they come (after `cursor`, or from now on), until the run is over.

        News without points come every second when nothing happens. Raises NotFoundError.
        """
        status = await self._access.run(principal, run)
        topics = (f"metrics:{status.id}", f"launch.run:{status.id}")
        if cursor is None:
            cursor = _cursor(await self._store.series([status.id])) or _NOTHING
        while True:
            heard = self._hints.listen(*topics)
            try:
                news = await self.news(principal, status.id, cursor or _NOTHING)
                cursor = news.cursor
                yield news
                if news.end:
                    return
                full = any(len(curve.points) >= _POINTS_MAX for curve in news.curves)
                await self._hints.until(heard, 0.0 if full else _POLL_S, *topics)
            finally:
                self._hints.drop(heard, *topics)

    async def _may_see(self, principal: Principal, run: str) -> bool:
        try:
            return (await self._access.run(principal, run)).id == run
        except NotFoundError:
            return False


def _cursor(series: Sequence[Series]) -> str:
    return write_cursor({one.id: one.n for one in series})


def _batch(owner: StreamOwner, stream: str, start: int, found: frames.Scan) -> Batch:
    columns: dict[str, Points] = {}
    params: dict[str, Any] = {}
    for frame in found.frames:
        if isinstance(frame, frames.Params):
            params.update(read_params(frame.json))
            continue
        for key, column in zip(frame.keys, frame.columns, strict=True):
            extend(columns.setdefault(key, points()), Points(frame.steps, frame.times, column))
    kept = {key: column for key, column in columns.items() if len(column)}
    return Batch(owner=owner, stream=stream, start=start, end=start + found.consumed, points=kept, params=params)
