"""Logs: taken from agents, read by people, one line after the other over all tasks of a run."""

from __future__ import annotations

from collections.abc import AsyncIterator

from nexus.infra.hints import Hints
from nexus.kernel.clock import Clock
from nexus.kernel.errors import UsageError
from nexus.kernel.identity import Principal
from nexus.kernel.logframes import FRAME_MAX_B, parse
from nexus.track.core.merge import Merged, Part, advance, merge
from nexus.track.model import Cursor, LogPage, Stream, StreamOwner, TaskLine, read_cursor, write_cursor
from nexus.track.ports import LogStore, RunStatus
from nexus.track.service.access import Access

PAGE_LINES = 1000
TAIL_MAX = 10_000
_PAGE_B = 4 * 1024 * 1024  # read for one page, over all tasks
_LINE_B = 512  # what a line is thought to take, when reading for a number of them
_POLL_S = 1.0  # how soon a follower notices the end of a run that says nothing
_HEARTBEAT_S = 15.0


class Logs:
    """The logs of all runs."""

    def __init__(self, access: Access, store: LogStore, clock: Clock, hints: Hints) -> None:
        self._access = access
        self._store = store
        self._clock = clock
        self._hints = hints

    async def append(self, owner: StreamOwner, offset: int, data: bytes) -> int:
        """Keep the bytes that begin at `offset` of the task's stream; what is there already is skipped.

        Returns the stream's end. Raises ConflictError (`expected` in its details) if bytes before are missing.
        """
        if offset < 0:
            raise UsageError("an offset is not negative")
        await self._access.remember(owner)
        end = await self._store.append(owner.task, offset, data)
        self._hints.hint(f"log:{owner.run}", f"log:{owner.task}")  # followers; launch, which waits for a log's end
        return end

    async def page(
        self,
        principal: Principal,
        run: str,
        *,
        cursor: str = "",
        tail: int | None = None,
        task: str = "",
        since_ms: int | None = None,
        limit: int = PAGE_LINES,
    ) -> LogPage:
        """The next lines after `cursor`, or the last `tail` lines. `task` is an id, or `role`, or `role/index`.

        Raises NotFoundError, UsageError.
        """
        found = await self._access.streams(principal, run)
        streams = _choose(found.streams, task)
        if tail is not None and not cursor:
            return await self._tail(found.run, streams, min(max(tail, 0), TAIL_MAX))
        at = read_cursor(cursor)
        if since_ms is not None and not cursor:
            at = {stream.id: await self._store.seek(stream.id, since_ms) for stream in streams}
        lines, at, more = await self._next(streams, at, min(max(limit, 1), TAIL_MAX))
        while since_ms is not None and not cursor and lines:
            late = [line for line in lines if line.line.at_ms >= since_ms]
            if late or not more:
                lines = late
                break
            lines, at, more = await self._next(streams, at, min(max(limit, 1), TAIL_MAX))
        return LogPage(lines=_name(lines, streams), cursor=write_cursor(at), end=found.run.ended and not more)

    async def follow(
        self, principal: Principal, run: str, *, cursor: str = "", tail: int | None = None, task: str = ""
    ) -> AsyncIterator[LogPage]:
        """Pages as they come, until the run is over and everything was given; the last page has `end`.

        A page without lines comes every 15 seconds when nothing happens. Raises NotFoundError.
        """
        status = await self._access.run(principal, run)
        topics = (f"log:{status.id}", f"launch.run:{status.id}")
        last = self._clock.monotonic()
        first = True
        while True:
            heard = self._hints.listen(*topics)
            try:
                page = await self.page(principal, status.id, cursor=cursor, tail=tail if first else None, task=task)
                quiet = self._clock.monotonic() - last
                if page.lines or page.end or first or quiet >= _HEARTBEAT_S:
                    last = self._clock.monotonic()
                    yield page
                if page.end:
                    return
                full = len(page.lines) >= PAGE_LINES
                first, cursor = False, page.cursor
                await self._hints.until(heard, 0.0 if full else _POLL_S, *topics)
            finally:
                self._hints.drop(heard, *topics)

    async def search(
        self, principal: Principal, run: str, text: str, *, task: str = "", limit: int = 200
    ) -> list[TaskLine]:
        """The lines that hold `text` exactly, task by task. Raises NotFoundError, UsageError."""
        found = await self._access.streams(principal, run)
        lines: list[Merged] = []
        streams = _choose(found.streams, task)
        for stream in streams:
            hits = await self._store.search(stream.id, text, limit=limit - len(lines))
            lines += [Merged(stream.id, parse(hit.frame), hit.offset + len(hit.frame) + 1) for hit in hits]
            if len(lines) >= limit:
                break
        return list(_name(lines, streams))

    async def _tail(self, run: RunStatus, streams: list[Stream], count: int) -> LogPage:
        """The last `count` lines over all tasks, and a cursor at the end."""
        at = {stream.id: await self._store.tail(stream.id, count) for stream in streams}
        lines: list[Merged] = []
        while True:
            more_lines, at, more = await self._next(streams, at, TAIL_MAX)
            lines = (lines + more_lines)[-count:] if count else []
            if not more or not more_lines:
                break
        return LogPage(lines=_name(lines, streams), cursor=write_cursor(at), end=run.ended and not more)

    async def _next(self, streams: list[Stream], at: Cursor, limit: int) -> tuple[list[Merged], Cursor, bool]:
        """The next lines, the cursor after them, and whether there are further ones now."""
        share = max(2 * FRAME_MAX_B, min(_LINE_B * limit, _PAGE_B // max(1, len(streams))))
        parts = []
        for stream in streams:
            start = at.get(stream.id, 0)
            data = await self._store.read(stream.id, start, share)
            parts.append(Part(stream.id, start, data, more=len(data) >= share))
        lines = merge(parts, limit)
        after = advance(at, lines)
        more = any(part.more or part.data.find(b"\n", after.get(part.task, 0) - part.start) >= 0 for part in parts)
        return lines, after, more


def _choose(streams: tuple[Stream, ...], task: str) -> list[Stream]:
    """The streams that `task` means: all, one by its id, a role's, or one process's of a role over all attempts."""
    if not task:
        return list(streams)
    role, slash, index = task.partition("/")
    chosen = [
        stream
        for stream in streams
        if stream.id == task or (stream.role == role and (not slash or str(stream.index) == index))
    ]
    if streams and not chosen:
        names = sorted({f"{stream.role}/{stream.index}" for stream in streams})
        raise UsageError(f"no task {task!r} has said anything", hint=f"These have: {', '.join(names[:20])}.")
    return chosen


def _name(lines: list[Merged], streams: list[Stream]) -> tuple[TaskLine, ...]:
    by_id = {stream.id: stream for stream in streams}
    return tuple(
        TaskLine(
            task=merged.task,
            role=by_id[merged.task].role,
            index=by_id[merged.task].index,
            attempt=by_id[merged.task].attempt,
            at_ms=merged.line.at_ms,
            stream=merged.line.stream,
            text=merged.line.text,
            whole=merged.line.whole,
        )
        for merged in lines
    )
