"""The bytes of a metric stream, from the user's process to the server's store. Standard library only, and pure.

A stream file is a sequence of frames, and nothing else; every frame can be read without those before it:

    magic    2 bytes   b"NX"
    version  1 byte    1
    kind     1 byte    1 points, 2 parameters
    length   u32       bytes of the body, at most BODY_MAX_B
    crc      u32       CRC-32 of the eight bytes above and the body
    body

    points:      u16 keys, u32 rows, for each key (u16 length, UTF-8), i64 step of each row, f64 time of each row in
                 seconds since 1970 (UTC), then for each key the f64 value of each row
    parameters:  a JSON object, UTF-8

Everything is little-endian. A frame that is not whole yet ends a scan; a damaged one is skipped up to the next whole
frame, so a crash in the middle of a write costs that write and nothing else.
"""

from __future__ import annotations

import struct
import sys
from array import array
from binascii import crc32
from collections.abc import Iterator, Sequence
from typing import NamedTuple

MAGIC = b"NX"
VERSION = 1
POINTS = 1
PARAMS = 2
BODY_MAX_B = 192 * 1024  # so that a whole frame fits into any piece of a stream that an agent sends (256 KiB)
KEYS_MAX = 256  # in one frame; a writer with more makes several frames
KEY_MAX_B = 512

_HEAD = struct.Struct("<2sBBII")
_SIGNED_B = 8  # of the header, what the CRC covers
_SHAPE = struct.Struct("<HI")
_LENGTH = struct.Struct("<H")
_PATIENCE = 8
_ROW_TARGET_B = 48 * 1024  # frames of points are cut near this size


class Block(NamedTuple):
    """Rows that have the same keys, in columns: `columns[k][r]` is the value of `keys[k]` in row `r`."""

    keys: tuple[str, ...]
    steps: array[int]
    times: array[float]
    columns: tuple[array[float], ...]


class Params(NamedTuple):
    """A frame of parameters: JSON, not read yet."""

    json: bytes


class Scan(NamedTuple):
    """What some bytes of a stream hold. `consumed`: up to where they are done with; `dropped`: of these, damaged."""

    frames: list[Block | Params]
    consumed: int
    dropped: int


def write_points(
    keys: Sequence[str], steps: Sequence[int], times: Sequence[float], columns: Sequence[Sequence[float]]
) -> Iterator[bytes]:
    """Frames for rows with the same keys: at most `KEYS_MAX` keys and about 48 KiB of numbers each."""
    for first in range(0, len(keys), KEYS_MAX):
        names = [key.encode() for key in keys[first : first + KEYS_MAX]]
        part = columns[first : first + KEYS_MAX]
        rows = max(1, _ROW_TARGET_B // (16 + 8 * len(names)))
        table = b"".join(_LENGTH.pack(len(name)) + name for name in names)
        for start in range(0, len(steps), rows):
            cut = slice(start, start + rows)
            body = [
                _SHAPE.pack(len(names), len(steps[cut])),
                table,
                _little(array("q", steps[cut])),
                _little(array("d", times[cut])),
                *(_little(array("d", column[cut])) for column in part),
            ]
            yield _frame(POINTS, b"".join(body))


def write_params(json: bytes) -> bytes:
    """A frame of parameters; `json` is an object of at most `BODY_MAX_B` bytes."""
    return _frame(PARAMS, json)


def scan(data: bytes) -> Scan:
    """Read every whole frame in `data`, which begins at a frame's first byte unless it is damaged."""
    frames: list[Block | Params] = []
    position = dropped = 0
    patience = _PATIENCE * len(data)  # a hostile stream must not make us checksum the same bytes over and over
    while position < len(data):
        size = _size(data, position)
        if size is None:
            break
        frame = _read(data, position, size) if size else None
        if frame is None:
            patience -= size
            after = data.find(MAGIC, position + 1) if patience > 0 else len(data)
            after = after if after >= 0 else _maybe_magic(data, position)
            dropped += after - position
            position = after
            continue
        frames.append(frame)
        position += size
    return Scan(frames, position, dropped)


def _size(data: bytes, position: int) -> int | None:
    """Bytes of the frame at `position`; 0 if no frame is there; None if it is not whole yet."""
    head = data[position : position + _HEAD.size]
    if head[:2] != MAGIC[: len(head)] or head[2:3] not in {b"", b"\x01"}:
        return 0
    if len(head) < _HEAD.size:
        return None
    length = _HEAD.unpack(head)[3]
    if length > BODY_MAX_B:
        return 0
    size = _HEAD.size + int(length)
    return size if position + size <= len(data) else None


def _maybe_magic(data: bytes, position: int) -> int:
    """Where to go on when no magic follows: the end, or its last byte if that may begin one."""
    end = len(data)
    return end - 1 if data.endswith(MAGIC[:1]) and end - 1 > position else end


def _read(data: bytes, position: int, size: int) -> Block | Params | None:
    _, _, kind, _, crc = _HEAD.unpack_from(data, position)
    body = data[position + _HEAD.size : position + size]
    if crc32(body, crc32(data[position : position + _SIGNED_B])) != crc:
        return None
    if kind == PARAMS:
        return Params(body)
    return _read_points(body) if kind == POINTS else None


def _read_points(body: bytes) -> Block | None:
    """A block, or None if the columns do not fill the body: a CRC proves what was written, not that it was sane."""
    try:
        count, rows = _SHAPE.unpack_from(body)
        position = _SHAPE.size
        keys = []
        for _ in range(count):
            (length,) = _LENGTH.unpack_from(body, position)
            position += _LENGTH.size
            name = body[position : position + length].decode()
            if length > KEY_MAX_B or "\0" in name:
                return None
            keys.append(name)
            position += length
    except (struct.error, UnicodeDecodeError):
        return None
    if len(body) - position != 8 * rows * (2 + count) or "" in keys or len(set(keys)) != count:
        return None
    parts = [body[position + 8 * rows * i : position + 8 * rows * (i + 1)] for i in range(2 + count)]
    steps, times = array("q"), array("d")
    steps.frombytes(parts[0])
    times.frombytes(parts[1])
    columns = tuple(array("d", part) for part in parts[2:])
    if sys.byteorder == "big":
        steps.byteswap()
        for column in (times, *columns):
            column.byteswap()
    return Block(tuple(keys), steps, times, columns)


def _frame(kind: int, body: bytes) -> bytes:
    signed = _HEAD.pack(MAGIC, VERSION, kind, len(body), 0)[:_SIGNED_B]
    return signed + crc32(body, crc32(signed)).to_bytes(4, "little") + body


def _little(column: array[int] | array[float]) -> bytes:
    if sys.byteorder == "big":
        column.byteswap()
    return column.tobytes()
