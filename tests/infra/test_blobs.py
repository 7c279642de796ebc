"""Blobs: one suite over memory, a folder, and a real S3 server."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nexus.infra.blobs import ObjectBlobs, open_blobs
from nexus.kernel.errors import LimitError, NotFoundError, UnavailableError, UsageError
from tests.ports import free_port
from tests.s3 import S3Server

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["memory", "folder", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectBlobs:
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3")
        for name, value in server.environ.items():
            monkeypatch.setenv(name, value)
        return open_blobs(server.place())
    return open_blobs("memory:" if request.param == "memory" else str(tmp_path / "blobs"))


async def pieces(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def read(blobs: ObjectBlobs, digest: str, start: int = 0) -> bytes:
    return b"".join([chunk async for chunk in blobs.open(digest, start)])


@pytest.mark.parametrize("size", [0, 1, 5000, 20_000_000])
async def test_bytes_come_back(blobs: ObjectBlobs, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    assert await blobs.put(sha(data), pieces(data, 1 << 20), limit_b=1 << 30) == size
    assert await blobs.size(sha(data)) == size
    assert await read(blobs, sha(data)) == data
    assert await read(blobs, sha(data), max(size - 3, 0)) == data[-3:]
    assert await blobs.put(sha(data), pieces(data), limit_b=1 << 30) == size


async def test_wrong_content_is_refused_and_not_kept(blobs: ObjectBlobs) -> None:
    with pytest.raises(UsageError, match="digest"):
        await blobs.put(sha(b"a"), pieces(b"b"), limit_b=100)
    assert await blobs.size(sha(b"a")) is None


async def test_too_large_is_refused_and_not_kept(blobs: ObjectBlobs) -> None:
    with pytest.raises(LimitError):
        await blobs.put(sha(b"x" * 101), pieces(b"x" * 101), limit_b=100)
    assert await blobs.size(sha(b"x" * 101)) is None


async def test_a_broken_upload_leaves_nothing(blobs: ObjectBlobs) -> None:
    async def breaks() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await blobs.put(sha(b"half and half"), breaks(), limit_b=100)
    assert await blobs.size(sha(b"half and half")) is None


async def test_what_is_not_there(blobs: ObjectBlobs) -> None:
    with pytest.raises(NotFoundError):
        await read(blobs, sha(b"nothing"))
    await blobs.drop(sha(b"nothing"))


@pytest.mark.parametrize("name", ["../../etc/passwd", "A" * 64, "0" * 63, "", "0" * 64 + "\n"])
async def test_only_digests_are_names(blobs: ObjectBlobs, name: str) -> None:
    with pytest.raises(UsageError):
        await blobs.size(name)


async def test_a_bucket_that_refuses_says_so(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong keys: an error with a next step, on every call, and nothing is taken for not there."""
    for name, value in {**s3.environ, "AWS_SECRET_ACCESS_KEY": "wrong"}.items():
        monkeypatch.setenv(name, value)
    refused = open_blobs(s3.place())
    with pytest.raises(UnavailableError) as caught:
        await refused.size(sha(b"x"))
    assert len(caught.value.message) < 400, "the reason, not a page of it"
    assert "SignatureDoesNotMatch" in caught.value.message or "privileges" in caught.value.message
    for call in (refused.put(sha(b"x"), pieces(b"x"), limit_b=10), read(refused, sha(b"x")), refused.drop(sha(b"x"))):
        with pytest.raises(UnavailableError):
            await call


async def test_a_bucket_that_is_away_is_not_waited_for_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    away = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true"}
    for name, value in {**away, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}.items():
        monkeypatch.setenv(name, value)
    async with asyncio.timeout(10):
        with pytest.raises(UnavailableError, match="does not answer"):
            await open_blobs("s3://bucket/prefix").size(sha(b"x"))


def test_a_url_that_no_store_understands_says_so() -> None:
    with pytest.raises(UsageError) as caught:
        open_blobs("gopher://bucket/prefix")
    assert "s3://" in caught.value.hint
