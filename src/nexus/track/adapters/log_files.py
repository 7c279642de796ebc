"""Implements `ports.LogStore` over one folder a task. File work happens in threads, one at a time per task."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from nexus.kernel.errors import UsageError
from nexus.kernel.ids import is_id
from nexus.track.adapters.segments import SEGMENT_B, TaskLog
from nexus.track.ports import Hit

T = TypeVar("T")


@dataclass
class _Open:
    """A task's log in memory, and how many callers use or wait for it."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    log: TaskLog | None = None
    users: int = 0


_OPEN_MAX = 2048  # streams whose index stays in memory; others are opened again when somebody asks


class LogFiles:
    """Logs of all tasks under `root`. One process at a time may write there."""

    def __init__(self, root: Path, *, segment_b: int = SEGMENT_B) -> None:
        self._root = root
        self._segment_b = segment_b
        self._open: OrderedDict[str, _Open] = OrderedDict()

    async def append(self, task: str, offset: int, data: bytes) -> int:
        return await self._with(task, lambda log: log.append(offset, data))

    async def end(self, task: str) -> int:
        known = self._open.get(task)
        if (
            known is not None and known.log is not None and not known.users
        ):  # asked at each task's end: no thread for it
            return known.log.end
        return await self._with(task, lambda log: log.end)

    async def read(self, task: str, start: int, limit_b: int) -> bytes:
        return await self._with(task, lambda log: log.read(start, limit_b))

    async def tail(self, task: str, lines: int) -> int:
        return await self._with(task, lambda log: log.tail(lines))

    async def seek(self, task: str, at_ms: int) -> int:
        return await self._with(task, lambda log: log.seek(at_ms))

    async def lines(self, task: str) -> int:
        return await self._with(task, lambda log: log.lines)

    async def search(self, task: str, text: str, *, start: int = 0, limit: int = 100) -> list[Hit]:
        if not text or "\n" in text:
            raise UsageError("search for a text within one line")
        hits = await self._with(task, lambda log: log.search(text.encode("utf-8", "replace"), start, limit))
        return [Hit(offset, frame) for offset, frame in hits]

    async def _with(self, task: str, work: Callable[[TaskLog], T]) -> T:
        """Do `work` with the task's log, in a thread, while nobody else touches it."""
        if not is_id(task):
            raise UsageError(f"{task[:80]!r} is not a task's id")
        entry = self._open.setdefault(task, _Open())
        self._open.move_to_end(task)
        entry.users += 1
        try:
            async with entry.lock:
                return await asyncio.to_thread(self._work, task, entry, work)
        finally:
            entry.users -= 1
            self._forget()

    def _work(self, task: str, entry: _Open, work: Callable[[TaskLog], T]) -> T:
        if entry.log is None:
            entry.log = TaskLog(self._root / task, self._segment_b)
        return work(entry.log)

    def _forget(self) -> None:
        """Drop what was not used for longest."""
        while len(self._open) > _OPEN_MAX:
            task, entry = next(iter(self._open.items()))
            if entry.users:
                return
            del self._open[task]
