"""Metrics, logs, artifacts and models for the pages, from the Track slice."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from nexus.kernel.errors import NotFoundError
from nexus.kernel.identity import Principal
from nexus.studio.ports import Kept, Line, Logged, ModelVersion, Series, Tail
from nexus.studio.words import is_of_machine, weight
from nexus.track import model as track
from nexus.track.model import TaskLine, read_cursor, write_cursor
from nexus.track.service.track import Track

_DRAWN_MAX = 300  # curves on a page; the command line and the API have the others
_BEHIND_MAX = 10_000  # lines that are read at once when a page has fallen behind


class TrackSource:
    """Implements `studio.ports.Track` and `studio.ports.Models`."""

    def __init__(self, service: Track) -> None:
        self._service = service

    # ------------------------------------------------------------------ metrics

    async def series(
        self, who: Principal, run: str, cursor: str = "", *, points: int = 800
    ) -> tuple[list[Series], str]:
        metrics = self._service.metrics
        summary = await metrics.summary(who, run)
        had = read_cursor(cursor)
        found: list[Series] = []
        drawn = sorted(summary.series, key=lambda one: (*weight(one.key), one.role, one.index, one.attempt))[
            :_DRAWN_MAX
        ]
        ids = {one.id for one in drawn}
        for key in sorted({one.key for one in drawn if one.n > had.get(one.id, 0)}, key=weight):
            mine = [one for one in drawn if one.key == key]
            fresh = all(one.id in had for one in mine)
            after = min(had[one.id] for one in mine) if fresh else None
            for curve in await metrics.chart(who, run, key, points=points, after=after):
                if curve.series.id not in ids:
                    continue
                start = had[curve.series.id] - after if after is not None else 0
                had[curve.series.id] = curve.after
                steps, values = list(curve.points.steps)[start:], list(curve.points.values)[start:]
                if steps:
                    found.append(_series(curve.series, steps, values, whole=after is None))
        return found, write_cursor(had)

    async def logged(self, who: Principal, run: str) -> Logged:
        summary = await self._service.metrics.summary(who, run)
        logged = sum(not is_of_machine(one.key) for one in summary.series)
        return Logged(summary.params, logged, max(0, len(summary.series) - _DRAWN_MAX))

    # ------------------------------------------------------------------ logs

    async def tail(self, who: Principal, run: str, cursor: str = "", *, limit: int = 500) -> Tail:
        logs = self._service.logs
        if not cursor:
            page = await logs.page(who, run, tail=limit)
            return Tail(_lines(page.lines), page.cursor)
        page = await logs.page(who, run, cursor=cursor, limit=limit)
        lines, skipped = page.lines, 0
        if len(lines) >= limit:  # the job prints faster than a page can show: keep up, and say what was left out
            page = await logs.page(who, run, cursor=page.cursor, limit=_BEHIND_MAX)
            lines = (lines + page.lines)[-limit:]
            skipped = max(len(page.lines), 0)
        return Tail(_lines(lines), page.cursor, skipped)

    async def search(self, who: Principal, run: str, text: str, *, limit: int = 200) -> list[Line]:
        return list(_lines(tuple(await self._service.logs.search(who, run, text, limit=limit))))

    async def text(self, who: Principal, run: str) -> AsyncIterator[bytes]:
        cursor = ""
        while True:
            page = await self._service.logs.page(who, run, cursor=cursor)
            if not page.lines:
                return
            yield b"".join(_as_text(line) for line in page.lines)
            cursor = page.cursor

    # ------------------------------------------------------------------ artifacts

    async def artifacts(self, who: Principal, run: str) -> list[Kept]:
        return [_kept(one) for one in await self._service.artifacts.of_run(who, run)]

    async def download(self, who: Principal, run: str, name: str) -> tuple[Kept, AsyncIterator[bytes]]:
        named = [one for one in await self._service.artifacts.of_run(who, run) if one.name == name]
        if not named:
            raise NotFoundError(f"the run has no artifact {name}", hint="Its page lists those that it has.")
        artifact, _, chunks = await self._service.artifacts.content(who, named[-1].id)
        return _kept(artifact), chunks

    # ------------------------------------------------------------------ models

    async def models(self, who: Principal) -> list[ModelVersion]:
        found = []
        for model in await self._service.models.all(who):
            version = await self._service.models.version(who, model.name, "latest")
            found.append(_version(version, model))
        return found

    async def versions(self, who: Principal, name: str) -> list[ModelVersion]:
        model = await self._service.models.get(who, name)
        return [_version(one, model) for one in await self._service.models.versions(who, name)]


def _series(series: track.Series, steps: list[int], values: list[float], *, whole: bool) -> Series:
    drawn = [value if math.isfinite(value) else None for value in values]
    line = f"{series.role}-{series.index}" + (f" attempt {series.attempt + 1}" if series.attempt else "")
    return Series(series.key, line, steps, drawn, drawn[-1], whole)


def _lines(lines: tuple[TaskLine, ...]) -> tuple[Line, ...]:
    return tuple(Line(line.at_ms, line.stream, line.text, f"{line.role}-{line.index}") for line in lines)


def _as_text(line: TaskLine) -> bytes:
    at = datetime.fromtimestamp(line.at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
    return f"{at}Z {line.role}-{line.index} {line.text}\n".encode()


def _kept(one: track.Artifact) -> Kept:
    return Kept(one.name, str(one.kind), one.size_b, one.digest, one.created, one.packed)


def _version(one: track.ModelVersion, model: track.Model) -> ModelVersion:
    return ModelVersion(
        name=model.name,
        version=one.number,
        created=one.created,
        run=one.run,
        size_b=one.size_b,
        metrics=one.metrics,
        params=one.params,
        aliases=tuple(alias for alias, number in model.aliases.items() if number == one.number),
        user=one.user,
        engine=one.meta.get("engine", ""),
    )
