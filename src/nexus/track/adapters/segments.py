"""One task's log on disk: append-only segment files, and a sparse index beside each.

    <folder>/00000000000000000000.log    the stream from that byte on, exactly as it was sent
    <folder>/00000000000000000000.idx    (byte, line, at_ms) of a frame about every 64 KiB

The file's size is the truth: an append is acknowledged after its write returned, so `kill -9` of the server loses
nothing (the operating system has the bytes), and any prefix of a stream is valid. Only a power cut can leave a tail of
zeros, which is cut off when the stream is opened. An index is never trusted for more than speed: it is made again when
it is missing, torn or does not fit.
"""

from __future__ import annotations

import errno
import os
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nexus.kernel.errors import ConflictError, LimitError

SEGMENT_B = 8 * 1024 * 1024
INDEX_EVERY_B = 64 * 1024
_ENTRY = struct.Struct("<QQQ")
_BLOCK_B = 1024 * 1024
_TIME_B = 13  # of a frame's head (kernel.logframes)
_HEAD_B = 16


@dataclass
class Mark:
    """A frame that begins at byte `offset`, is number `line` of the stream, and was said at `at_ms`."""

    offset: int
    line: int
    at_ms: int


@dataclass
class Segment:
    """One file: where it begins in the stream, and what is known of it."""

    start: int
    size: int
    first_line: int = 0
    marks: list[Mark] = field(default_factory=list)


class TaskLog:
    """The stream of one task. Not thread-safe: the store calls it under the task's lock."""

    def __init__(self, folder: Path, segment_b: int = SEGMENT_B) -> None:
        self._folder = folder
        self._segment_b = segment_b
        self._segments: list[Segment] = []
        self.lines = 0
        self._begins = True  # whether the next byte begins a frame
        for path in sorted(folder.glob("*.log")) if folder.is_dir() else ():
            self._open(path)

    @property
    def end(self) -> int:
        """Bytes in the stream."""
        return self._segments[-1].start + self._segments[-1].size if self._segments else 0

    # ------------------------------------------------------------------ writing

    def append(self, offset: int, data: bytes) -> int:
        """See `ports.LogStore.append`."""
        end = self.end
        if offset > end:
            raise ConflictError(
                f"bytes {end}..{offset} of the log are missing", hint=f"Send from byte {end} on.", expected=end
            )
        data = data[end - offset :]
        while data:
            segment = self._segments[-1] if self._segments else None
            if segment is None or segment.size >= self._segment_b:
                segment = self._begin(end)
            piece = data[: self._segment_b - segment.size]
            written = self._write(segment, piece)
            end += written
            data = data[written:]
        return end

    def _begin(self, start: int) -> Segment:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        segment = Segment(start, 0, self.lines)
        self._segments.append(segment)
        return segment

    def _write(self, segment: Segment, piece: bytes) -> int:
        file = os.open(self._path(segment, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            written = os.write(file, piece)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
                raise LimitError(
                    "the server's disk is full: this log cannot be kept now",
                    hint="Make room on the server; agents keep what is not stored and send it again.",
                ) from error
            raise
        finally:
            os.close(file)
        start = segment.start + segment.size
        segment.size += written
        self._index(segment, start, piece[:written])
        return written

    def _index(self, segment: Segment, start: int, data: bytes) -> None:
        """Count the frames of `data`, and note one about every INDEX_EVERY_B."""
        marks = self._scan(segment, start, data)
        if marks:
            raw = b"".join(_ENTRY.pack(mark.offset, mark.line, mark.at_ms) for mark in marks)
            try:
                with self._path(segment, "idx").open("ab") as file:
                    file.write(raw)
            except OSError:
                return  # the index is only for speed, and is made again at the next opening

    def _scan(self, segment: Segment, start: int, data: bytes) -> list[Mark]:
        """Count lines, and mark the first frame at or after each INDEX_EVERY_B."""
        found: list[Mark] = []
        counted = 0
        while True:
            due = segment.marks[-1].offset + INDEX_EVERY_B - start if segment.marks else 0
            begin = self._frame_at(data, max(0, due))
            if begin is None or begin + _TIME_B > len(data):
                break
            self.lines += data.count(b"\n", counted, begin)
            counted = begin
            time = data[begin : begin + _TIME_B]
            at_ms = int(time) if time.isdigit() else (segment.marks[-1].at_ms if segment.marks else 0)
            found.append(Mark(start + begin, self.lines, at_ms))
            segment.marks.append(found[-1])
        self.lines += data.count(b"\n", counted)
        self._begins = data.endswith(b"\n")
        return found

    def _frame_at(self, data: bytes, position: int) -> int | None:
        """Where the first frame begins in `data`, at `position` or later."""
        if position == 0 and self._begins:
            return 0
        stop = data.find(b"\n", max(0, position - 1))
        return stop + 1 if stop >= 0 else None

    # ------------------------------------------------------------------ opening

    def _open(self, path: Path) -> None:
        start = int(path.stem)
        if start != self.end:
            path.rename(path.with_suffix(".orphan"))  # behind a hole that a power cut left: the agent sends it again
            return
        segment = Segment(start, path.stat().st_size, self.lines)
        self._segments.append(segment)
        self._cut_zeros(segment)
        self._load_index(segment)
        loaded, rest = len(segment.marks), start
        if segment.marks:
            rest, self.lines = segment.marks[-1].offset, segment.marks[-1].line
        for at, block in self._blocks(segment, rest):
            self._scan(segment, at, block)
        if len(segment.marks) > loaded:
            self._save_index(segment)

    def _cut_zeros(self, segment: Segment) -> None:
        """What a power cut leaves: a tail of zeros behind the last newline. No frame begins with one."""
        tail_b = min(segment.size, _BLOCK_B)
        tail = self._read(segment, segment.start + segment.size - tail_b, tail_b)
        rest = tail.rpartition(b"\n")[2]
        if rest and not rest.strip(b"\0"):
            segment.size -= len(rest)
            os.truncate(self._path(segment, "log"), segment.size)

    def _load_index(self, segment: Segment) -> None:
        """The marks that fit; a torn or wrong index is dropped from there on."""
        try:
            raw = self._path(segment, "idx").read_bytes()
        except FileNotFoundError:
            return
        numbers = array("Q", raw[: len(raw) // _ENTRY.size * _ENTRY.size])
        for i in range(0, len(numbers), 3):
            mark = Mark(numbers[i], numbers[i + 1], numbers[i + 2])
            last = segment.marks[-1] if segment.marks else Mark(segment.start - 1, segment.first_line - 1, 0)
            if not (last.offset < mark.offset < segment.start + segment.size and mark.line > last.line):
                break
            segment.marks.append(mark)
        if segment.marks:
            before = self._read(segment, segment.start, segment.marks[0].offset - segment.start)
            if segment.marks[0].line != segment.first_line + before.count(b"\n"):
                segment.marks.clear()
        if len(segment.marks) * _ENTRY.size != len(raw):
            self._save_index(segment)

    def _save_index(self, segment: Segment) -> None:
        raw = b"".join(_ENTRY.pack(mark.offset, mark.line, mark.at_ms) for mark in segment.marks)
        draft = self._path(segment, "tmp")
        draft.write_bytes(raw)
        draft.replace(self._path(segment, "idx"))

    def _path(self, segment: Segment, suffix: str) -> Path:
        return self._folder / f"{segment.start:020d}.{suffix}"

    # ------------------------------------------------------------------ reading

    def read(self, start: int, limit_b: int) -> bytes:
        """See `ports.LogStore.read`."""
        parts: list[bytes] = []
        for segment in self._from(start):
            at = max(start, segment.start)
            piece = self._read(segment, at, min(limit_b, segment.start + segment.size - at))
            parts.append(piece)
            limit_b -= len(piece)
            if limit_b <= 0:
                break
        return b"".join(parts)

    def tail(self, count: int) -> int:
        """See `ports.LogStore.tail`."""
        if count <= 0:
            return self.end
        left = count + 1  # the newline that ends the frame before the first wanted one
        for segment in reversed(self._segments):
            stop = segment.start + segment.size
            while stop > segment.start:
                begin = max(segment.start, stop - INDEX_EVERY_B)
                block = self._read(segment, begin, stop - begin)
                found = block.count(b"\n")
                if found >= left:
                    position = len(block)
                    for _ in range(left):
                        position = block.rfind(b"\n", 0, position)
                    return begin + position + 1
                left -= found
                stop = begin
        return 0

    def seek(self, at_ms: int) -> int:
        """See `ports.LogStore.seek`."""
        best = 0
        for segment in self._segments:
            for mark in segment.marks:
                if mark.at_ms >= at_ms:
                    return best
                best = mark.offset
        return best

    def search(self, needle: bytes, start: int, limit: int) -> list[tuple[int, bytes]]:
        """Frames whose line holds `needle`; a frame's head (time and stream) is not searched."""
        hits: list[tuple[int, bytes]] = []
        rest, rest_at = b"", start
        for segment in self._from(start):
            for at, block in self._blocks(segment, max(start, segment.start)):
                data, base = (rest + block, rest_at) if rest else (block, at)
                whole = data.rfind(b"\n") + 1 or (len(data) if len(data) > 2 * _BLOCK_B else 0)
                self._hits(data[:whole], base, needle, limit, hits)
                if len(hits) >= limit:
                    return hits
                rest, rest_at = data[whole:], base + whole
        return hits

    def _hits(self, data: bytes, base: int, needle: bytes, limit: int, hits: list[tuple[int, bytes]]) -> None:
        position = data.find(needle)
        while position >= 0 and len(hits) < limit:
            begin, stop = data.rfind(b"\n", 0, position) + 1, data.find(b"\n", position)
            if needle in data[begin + _HEAD_B : stop]:
                hits.append((base + begin, data[begin:stop]))
            position = data.find(needle, stop + 1)

    def _from(self, start: int) -> Iterator[Segment]:
        return (segment for segment in self._segments if segment.start + segment.size > start)

    def _blocks(self, segment: Segment, start: int) -> Iterator[tuple[int, bytes]]:
        stop = segment.start + segment.size
        while start < stop:
            block = self._read(segment, start, min(_BLOCK_B, stop - start))
            if not block:
                return
            yield start, block
            start += len(block)

    def _read(self, segment: Segment, start: int, size: int) -> bytes:
        with self._path(segment, "log").open("rb", buffering=0) as file:
            file.seek(start - segment.start)
            return file.read(size) or b""
