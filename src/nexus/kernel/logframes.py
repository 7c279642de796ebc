"""The one format of a task's log, from the process's pipe to the server's disk: text lines that grep can read.

    1763982170123 o loss 0.31          a whole line of standard output, at that many milliseconds since 1970 (UTC)
    1763982170125 e Traceback ...      of standard error
    1763982170125 O part of a very     upper case: the line goes on in the next frame of the same stream
    1763982170126 n setup finished     said by Nexus, not by the job

A stream is a sequence of such frames, each ending in a newline; offsets are bytes. A line's own bytes are kept as they
are, except that a newline ends the frame. Frames are at most `FRAME_MAX_B` long, so one line without an end is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

FRAME_MAX_B = 64 * 1024
_HEAD_B = 16  # 13 digits, space, letter, space


@dataclass(frozen=True, slots=True)
class LogLine:
    """One frame, read back. `whole` is False when the line goes on in the next frame of its stream."""

    at_ms: int
    stream: str  # out | err | nexus
    text: str
    whole: bool = True


_LETTER = {"out": b"o", "err": b"e", "nexus": b"n"}
_STREAM = {letter.decode(): name for name, letter in _LETTER.items()}


def frame(at_ms: int, stream: str, line: bytes, *, whole: bool = True) -> bytes:
    """One frame. `line` has no newline and at most FRAME_MAX_B - 17 bytes."""
    letter = _LETTER[stream] if whole else _LETTER[stream].upper()
    return b"%013d %s %s\n" % (at_ms, letter, line)


def frames(at_ms: int, stream: str, line: bytes) -> Iterator[bytes]:
    """A line of any length as frames."""
    room = FRAME_MAX_B - _HEAD_B - 1
    while len(line) > room:
        yield frame(at_ms, stream, line[:room], whole=False)
        line = line[room:]
    yield frame(at_ms, stream, line)


def parse(raw: bytes) -> LogLine:
    """A frame without its newline. Bytes that are not UTF-8 become U+FFFD; a damaged frame becomes a `nexus` line."""
    head, body = raw[:_HEAD_B], raw[_HEAD_B:]
    letter = head[14:15].decode("ascii", "replace")
    if len(head) < _HEAD_B or not head[:13].isdigit() or letter.lower() not in _STREAM:
        return LogLine(0, "nexus", raw.decode("utf-8", "replace"))
    return LogLine(int(head[:13]), _STREAM[letter.lower()], body.decode("utf-8", "replace"), letter.islower())
