"""The metric stream's bytes: what is written is read back, and damage costs only what it touched."""

from __future__ import annotations

import math
import time

from hypothesis import given
from hypothesis import strategies as st

from nexus.track.frames import BODY_MAX_B, KEY_MAX_B, KEYS_MAX, Block, Params, scan, write_params, write_points

FLOATS = st.floats(allow_nan=True, allow_infinity=True)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
KEYS = st.lists(NAMES, unique=True, min_size=1)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[int], list[float], list[list[float]]]:
    keys = draw(KEYS)
    rows = draw(st.integers(1, 5))
    steps = draw(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=rows, max_size=rows))
    times = draw(st.lists(st.floats(0, 1e10), min_size=rows, max_size=rows))
    columns = [draw(st.lists(FLOATS, min_size=rows, max_size=rows)) for _ in keys]
    return keys, steps, times, columns


def same(left: list[float], right: list[float]) -> bool:
    return all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(left, right, strict=True))


@given(tables())
def test_what_is_written_is_read(table: tuple[list[str], list[int], list[float], list[list[float]]]) -> None:
    keys, steps, times, columns = table
    data = b"".join(write_points(keys, steps, times, columns))
    found = scan(data)
    assert (found.consumed, found.dropped) == (len(data), 0)
    (block,) = found.frames
    assert isinstance(block, Block)
    assert block.keys == tuple(keys)
    assert list(block.steps) == steps
    assert list(block.times) == times
    assert all(same(list(got), want) for got, want in zip(block.columns, columns, strict=True))


@given(st.integers(0, 400))
def test_a_torn_tail_is_left_for_later(cut: int) -> None:
    frames = [b"".join(write_points(["a", "b"], [i], [1.0], [[1.0], [2.0]])) for i in range(4)]
    data = b"".join(frames)
    cut = min(cut, len(data))
    found = scan(data[:cut])
    whole = cut // len(frames[0])
    assert len(found.frames) == whole
    assert (found.consumed, found.dropped) == (whole * len(frames[0]), 0)


@given(st.data())
def test_a_flipped_byte_costs_at_most_its_own_frame(data: st.DataObject) -> None:
    frames = [b"".join(write_points([f"k{i}"], [i], [1.0], [[float(i)]])) for i in range(5)]
    stream = bytearray(b"".join(frames))
    at = data.draw(st.integers(0, len(stream) - 1))
    stream[at] ^= data.draw(st.integers(1, 255))
    found = scan(bytes(stream) + b"".join(write_points(["end"], [9], [1.0], [[9.0]])) * 3)
    keys = [frame.keys[0] for frame in found.frames if isinstance(frame, Block)]
    hit = at // len(frames[0])
    length_damaged = len(keys) <= hit and found.dropped == 0  # a longer length asks for more bytes: nothing is lost yet
    if not length_damaged:
        assert set(keys) == {f"k{i}" for i in range(5) if i != hit} | {"end"}
        assert found.dropped == len(frames[0])


def test_the_first_bytes_may_be_missing() -> None:
    frame = write_params(b'{"a": 1}')
    found = scan(frame[5:] + frame)
    assert found.frames == [Params(b'{"a": 1}')]
    assert found.dropped == len(frame) - 5


def test_many_keys_and_rows_are_cut_into_frames() -> None:
    keys = [f"k{i}" for i in range(2 * KEYS_MAX + 1)]
    rows = 300
    data = b"".join(write_points(keys, range(rows), [0.0] * rows, [[1.0] * rows] * len(keys)))
    found = scan(data)
    blocks = [frame for frame in found.frames if isinstance(frame, Block)]
    assert max(len(block.keys) for block in blocks) == KEYS_MAX
    assert _largest(data) < 256 * 1024, "whole frames fit into what an agent sends at once"
    assert sum(len(block.keys) * len(block.steps) for block in blocks) == rows * len(keys)
    assert {key for block in blocks for key in block.keys} == set(keys)


def test_the_longest_names_still_fit() -> None:
    keys = [f"{i:0{KEY_MAX_B}}" for i in range(KEYS_MAX)]
    data = b"".join(write_points(keys, range(50), [0.0] * 50, [[1.0] * 50] * len(keys)))
    assert scan(data).consumed == len(data)
    assert _largest(data) < 256 * 1024


def _largest(data: bytes) -> int:
    """Bytes of the largest frame."""
    sizes, rest = [], data
    while rest:
        end = next(end for end in range(1000, len(rest) + 1000, 1000) if scan(rest[:end]).frames)
        sizes.append(scan(rest[:end]).consumed)
        rest = rest[sizes[-1] :]
        if len(sizes) > 3:
            break
    return max(sizes)


def test_a_hostile_stream_costs_bounded_time() -> None:
    evil = b"NX\x01\x01" + (BODY_MAX_B - 64).to_bytes(4, "little")  # each asks for a checksum over 4 MiB
    data = evil * (8 * 1024 * 1024 // len(evil))
    begin = time.process_time()
    found = scan(data)
    assert time.process_time() - begin < 5
    assert not found.frames
