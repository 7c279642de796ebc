"""Chunks: they are deflated when that pays, go on where they were, and hold no bombs."""

from __future__ import annotations

import resource
import zlib
from pathlib import Path

import numpy as np
import pytest

from nexus.federate.adapters import chunks
from nexus.federate.adapters.chunks import CHUNK_B, DEFLATE, Incoming, checksum, read_chunk, unwrapped, wrapped
from nexus.kernel.errors import UsageError

NOISE = np.random.default_rng(0).normal(size=50_000).astype(np.float32).tobytes()
SPARSE = bytes(150_000) + NOISE[:5_000]
KEY = (3, 7, "c" * 32)


def test_a_chunk_is_deflated_when_that_pays_and_comes_back_as_it_was():
    assert wrapped(NOISE) == (NOISE, "")
    small, encoding = wrapped(SPARSE)
    assert encoding == DEFLATE
    assert len(small) < len(SPARSE) / 10
    assert unwrapped(small, encoding) == SPARSE
    assert unwrapped(NOISE, "") == NOISE
    assert wrapped(b"") == (b"", "")


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (zlib.compress(bytes(CHUNK_B + 1)), DEFLATE),
        (zlib.compress(b"abc") + b"more", DEFLATE),
        (zlib.compress(NOISE)[:-9], DEFLATE),
        (b"\x80\x04K\x01.", DEFLATE),
        (b"abc", "gzip"),
    ],
)
def test_what_is_no_chunk_is_refused(data, encoding):
    with pytest.raises(UsageError):
        unwrapped(data, encoding)


def test_a_file_arrives_in_chunks_and_only_the_next_one_is_taken(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_B", 60_000)
    source = tmp_path / "source"
    source.write_bytes(NOISE)
    incoming = Incoming(tmp_path / "in")
    offset = 0
    while data := read_chunk(source, offset):
        assert incoming.add(*KEY, offset + 1, data) == offset, "a gap"
        assert incoming.add(*KEY, offset, data) == offset + len(data)
        assert incoming.add(*KEY, offset, data) == offset + len(data), "twice"
        incoming = Incoming(tmp_path / "in")  # as after a restart
        offset = incoming.held(*KEY)
    assert checksum(incoming.path(*KEY)) == checksum(source)


def test_another_file_of_the_same_client_takes_its_place_and_old_rounds_are_forgotten(tmp_path: Path):
    incoming = Incoming(tmp_path)
    other = (3, 7, "d" * 32)
    incoming.add(*KEY, 0, b"half")
    incoming.add(*other, 0, b"other")
    assert (incoming.held(*KEY), incoming.held(*other)) == (0, 5)
    incoming.add(3, 77, "e" * 32, 0, b"x")
    assert incoming.held(*other) == 5
    incoming.clean(4)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_what_was_there(tmp_path: Path):
    incoming = Incoming(tmp_path)
    incoming.add(*KEY, 0, bytes(1000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))
    try:
        with pytest.raises(OSError, match="large"):
            incoming.add(*KEY, 1000, bytes(1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert incoming.held(*KEY) == 1000
    assert incoming.add(*KEY, 1000, bytes(1000)) == 2000
