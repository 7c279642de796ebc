"""Many tasks' logs as one: merged by time, resumable at any line. Pure.

Each task's own order is never changed (it is by byte, not by time). A line that was cut into several frames stays
together. Merging stops where a task's bytes end although it has more: what comes next could be older.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nexus.kernel.logframes import FRAME_MAX_B, LogLine, parse


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of one task's log from `start` on; `more`: the store has further bytes behind them."""

    task: str
    start: int
    data: bytes
    more: bool


@dataclass(frozen=True, slots=True)
class Merged:
    """A line, whose it is, and the byte after it in its task's log."""

    task: str
    line: LogLine
    end: int


def merge(parts: Sequence[Part], limit: int) -> list[Merged]:
    """The next lines of all `parts`, at most about `limit` (a line's frames are not separated)."""
    readers = [_read(part) for part in parts]
    heap: list[tuple[int, int, Merged]] = []
    newest = [0] * len(parts)
    found: list[Merged] = []

    def fetch(number: int) -> bool:
        """Put the task's next frame on the heap; False if the store has to be asked for it first."""
        item = next(readers[number], None)
        if item is None:
            return not parts[number].more
        newest[number] = max(newest[number], item.line.at_ms)  # a clock set back must not reorder the task
        heapq.heappush(heap, (newest[number], number, item))
        return True

    if not all(fetch(number) for number in range(len(parts))):
        return found
    while heap and len(found) < limit:
        _, number, item = heapq.heappop(heap)
        found.append(item)
        while not item.line.whole:
            following = next(readers[number], None)
            if following is None:
                break
            item = following
            found.append(item)
        if not fetch(number):
            break
    return found


def _read(part: Part) -> Iterator[Merged]:
    """Whole frames only: one that has no newline yet is read next time, unless it is longer than frames may be."""
    start, data = 0, part.data
    while start < len(data):
        stop = data.find(b"\n", start)
        if stop < 0 and len(data) - start < FRAME_MAX_B:
            return
        stop = stop if stop >= 0 else start + FRAME_MAX_B - 1
        yield Merged(part.task, parse(data[start:stop]), part.start + stop + 1)
        start = stop + 1


def advance(cursor: Mapping[str, int], lines: Sequence[Merged]) -> dict[str, int]:
    """The cursor after `lines`."""
    return {**cursor, **{merged.task: merged.end for merged in lines}}
