"""Server-sent events of one run: metrics, log and state in one stream, at most four times a second."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, replace

import msgspec

from nexus.kernel.identity import Principal
from nexus.launch.model import RUN_LIFE, Run
from nexus.studio.ports import Line, Services

_TICK_S = 0.25
_ALIVE_S = 15.0  # without news: a comment, so that proxies keep the connection
_LIFE_S = 300.0  # then the browser connects again, and proves its session again
_LINES = 400  # of one tick


@dataclass(frozen=True, slots=True)
class Cursors:
    """How much of a run a page has: an event's id, and what a browser sends back after a break."""

    series: str = ""
    log: str = ""
    version: int = 0

    def __str__(self) -> str:
        return f"{self.version}|{self.series}|{self.log}"

    @classmethod
    def read(cls, text: str) -> Cursors:
        """From `Last-Event-ID`; anything else is the beginning."""
        parts = text.split("|")
        if len(parts) != 3 or not parts[0].isdigit():
            return cls()
        return cls(parts[1], parts[2], int(parts[0]))


async def run_events(services: Services, who: Principal, run_id: str, seen: Cursors) -> AsyncIterator[bytes]:
    """What happens to a run (by its id) from `seen` on, until its end has been told.

    Sleeps until somebody hints at the run; after news it looks once more a tick later, since one look takes only so
    many lines.
    """
    clock, hints = services.clock, services.hints
    topics = (f"launch.run:{run_id}", f"log:{run_id}", f"metrics:{run_id}")
    began = clock.monotonic()
    yield b"retry: 1000\n\n"
    while clock.monotonic() - began < _LIFE_S:
        heard = hints.listen(*topics)
        try:
            run = await services.launch.run(who, run_id)
            pieces, seen = await _news(services, who, run, seen)
            for name, body in pieces:
                yield _event(name, body, seen)
            if not pieces and RUN_LIFE.is_final(run.state):
                yield _event("end", None, seen)
                return
            if not pieces and not await hints.until(heard, _ALIVE_S, *topics):
                yield b":\n\n"
        finally:
            hints.drop(heard, *topics)
        if pieces:
            await clock.sleep(_TICK_S)


async def _news(
    services: Services, who: Principal, run: Run, seen: Cursors
) -> tuple[list[tuple[str, object]], Cursors]:
    pieces: list[tuple[str, object]] = []
    series, series_cursor = await services.track.series(who, run.id, seen.series)
    if series:
        pieces.append(("series", [asdict(one) for one in series]))
    tail = await services.track.tail(who, run.id, seen.log, limit=_LINES)
    if tail.lines:
        pieces.append(("log", {"lines": [line_body(line) for line in tail.lines], "skipped": tail.skipped}))
    if run.version != seen.version:
        pieces.append(("run", {"state": run.state}))
    return pieces, replace(seen, series=series_cursor, log=tail.cursor or seen.log, version=run.version)


def line_body(line: Line) -> dict[str, object]:
    """A line as the browser's log takes it."""
    return {"at": line.at, "stream": line.stream, "text": line.text, "from": line.origin}


def _event(name: str, body: object, seen: Cursors) -> bytes:
    return b"event: %s\nid: %s\ndata: %s\n\n" % (name.encode(), str(seen).encode(), msgspec.json.encode(body))
