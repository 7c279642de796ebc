"""The shim's formats and its spool."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.agent.adapters.shim import spool as spool_module
from nexus.agent.adapters.shim.formats import decode_spec, decode_status, encode_spec, encode_status, escape
from nexus.agent.adapters.shim.masks import Masks
from nexus.agent.adapters.shim.spool import FRAME_BODY_B, LineReader, LogSpool
from nexus.kernel.logframes import FRAME_MAX_B, frame, parse

TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"))


@given(st.dictionaries(TEXT.filter(bool), st.lists(TEXT)))
def test_a_spec_is_read_as_it_was_written(fields: dict[str, list[str]]) -> None:
    assert decode_spec(encode_spec(fields)) == fields


def test_a_spec_holds_no_nul() -> None:
    with pytest.raises(ValueError, match="NUL"):
        encode_spec({"argv": ["a\0b"]})


def test_a_status_has_one_size_and_is_read_as_it_was_written() -> None:
    status = encode_status(shim=123456, job=7, lost=10**12)
    assert len(status) == len(encode_status(shim=1))
    assert decode_status(status) == {"shim": "123456", "job": "7", "lost": "1000000000000"}


def test_quotes_and_controls_stay_inside_a_json_string() -> None:
    assert escape('a"b\\c\nd') == 'a\\"b\\\\c?d'


def log_of(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(folder.iterdir()))


def test_frames_are_those_of_the_kernel(tmp_path: Path) -> None:
    spool = LogSpool(str(tmp_path), 1 << 20)
    spool.add(b"o", b"one\ntwo")
    spool.add(b"e", b"part", whole=False)
    spool.close()
    raw = log_of(tmp_path).splitlines(keepends=True)
    lines = [parse(line[:-1]) for line in raw]
    assert [(line.stream, line.text, line.whole) for line in lines] == [
        ("out", "one", True),
        ("out", "two", True),
        ("err", "part", False),
    ]
    assert raw[0] == frame(lines[0].at_ms, "out", b"one")
    assert raw[2] == frame(lines[2].at_ms, "err", b"part", whole=False)
    assert FRAME_BODY_B + 17 == FRAME_MAX_B


@given(pieces=st.lists(st.binary(max_size=50), max_size=8), scale=st.sampled_from([1, 3000]))
def test_every_byte_of_a_pipe_is_kept(tmp_path_factory, pieces: list[bytes], scale: int) -> None:
    """However the writes fall, the frames joined are what was written; no frame is longer than the format allows."""
    folder = tmp_path_factory.mktemp("log")
    spool = LogSpool(str(folder), 1 << 30, segment_b=4096)
    read, write = os.pipe()
    reader = LineReader(read, b"o", spool, Masks([]))
    for piece in pieces:
        data = piece * scale
        for start in range(0, len(data), 16_000):
            os.write(write, data[start : start + 16_000])
            reader.read()
    os.close(write)
    while reader.read():
        pass
    os.close(read)
    spool.close()
    raw = log_of(folder)
    frames = raw.split(b"\n")[:-1]
    assert all(len(one) < FRAME_MAX_B for one in frames)
    joined = b"".join(one[16:] + (b"\n" if one[14:15] == b"o" else b"") for one in frames)
    written = b"".join(piece * scale for piece in pieces)
    assert joined == written + (b"" if written.endswith(b"\n") or not written else b"\n")
    starts = sorted(int(name.name) for name in folder.iterdir())
    assert starts[0] == 0
    assert starts == _ends(folder, starts)


def _ends(folder: Path, starts: list[int]) -> list[int]:
    """Where each segment should begin, by the sizes of those before it."""
    result = [0]
    for start in starts[:-1]:
        result.append(result[-1] + (folder / f"{start:016d}").stat().st_size)
    return result


def test_a_full_spool_says_what_it_dropped_once_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "_ROOM_S", 0.0)
    spool = LogSpool(str(tmp_path), 1000, segment_b=200)
    for _ in range(60):
        spool.add(b"o", b"x" * 34)
    assert spool.lost_in_all_b == 41 * 35
    for file in sorted(tmp_path.iterdir())[:2]:  # the agent frees what the server has
        file.unlink()
    spool.add(b"o", b"after")
    spool.close()
    lines = [parse(line).text for line in log_of(tmp_path).split(b"\n")[:-1]]
    assert lines[-2:] == ["dropped 1435 bytes of the log: the spool was full", "after"]


@pytest.mark.parametrize("room", range(0, 120, 7))
def test_a_disk_that_fills_in_the_middle_of_a_frame_leaves_no_damage(
    tmp_path: Path, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes `room` bytes more, then none, then all again: frames stay whole, all bytes are accounted for."""
    spool = LogSpool(str(tmp_path), 1 << 20)
    spool.add(b"o", b"before")
    real, left = os.write, [room]

    def write(fd: int, data: bytes) -> int:
        taken = real(fd, data[: left[0]]) if left[0] else 0
        left[0] -= taken
        if not taken:
            raise OSError(errno.ENOSPC, "no space")
        return taken

    monkeypatch.setattr(os, "write", write)
    for number in range(6):
        spool.add(b"o", b"line %d\nand more" % number)
    assert spool.is_disk_full
    monkeypatch.setattr(os, "write", real)
    spool.add(b"o", b"after")
    spool.close()
    lines = [parse(line) for line in log_of(tmp_path).split(b"\n")[:-1]]
    assert {line.stream for line in lines} == {"out", "nexus"}
    assert all(line.at_ms > 0 for line in lines)
    lost = sum(int(line.text.split()[1]) for line in lines if line.stream == "nexus")
    kept = sum(len(line.text) + 1 for line in lines if line.stream == "out")
    assert kept + lost == len("before\n") + 6 * len("line 0\nand more\n") + len("after\n")
    assert lines[-1].text == "after"
