"""Blobs in a folder, in S3-compatible storage, or in memory: one class over the `obstore` library's stores."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, MemoryStore, from_url

from nexus.kernel.errors import LimitError, NotFoundError, UnavailableError, UsageError

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHUNK_B = 1 << 20
_PART_B = 8 << 20
_RETRIES: Any = {"max_retries": 4, "retry_timeout": timedelta(seconds=30)}  # by itself the library tries for minutes


class ObjectBlobs:
    """Implements `kernel.blobs.Blobs`. An upload appears whole or not at all."""

    def __init__(self, store: Any) -> None:
        self._store = store

    async def put(self, digest: str, chunks: AsyncIterator[bytes], *, limit_b: int) -> int:
        key = _key(digest)
        have = await self.size(digest)
        if have is not None:
            return have
        checked = _Checked(chunks, digest, limit_b)
        try:
            await obstore.put_async(self._store, key, checked.parts(), chunk_size=_PART_B)
        except Exception as error:
            if checked.failure is not None:
                raise checked.failure from error
            raise _unavailable(error) from error
        return checked.size

    async def size(self, digest: str) -> int | None:
        try:
            return int((await obstore.head_async(self._store, _key(digest)))["size"])
        except FileNotFoundError:
            return None
        except BaseError as error:
            raise _unavailable(error) from error

    async def open(self, digest: str, start: int = 0) -> AsyncIterator[bytes]:
        key = _key(digest)
        try:
            found = await obstore.get_async(self._store, key, options={"range": {"offset": start}} if start else None)
        except FileNotFoundError as error:
            raise NotFoundError(f"no blob {digest[:12]}…") from error
        except BaseError as error:
            raise _unavailable(error) from error
        try:
            async for chunk in found.stream(min_chunk_size=_CHUNK_B):
                yield bytes(chunk)
        except BaseError as error:
            raise _unavailable(error) from error

    async def drop(self, digest: str) -> None:
        try:
            await obstore.delete_async(self._store, _key(digest))
        except FileNotFoundError:
            return
        except BaseError as error:
            raise _unavailable(error) from error


class _Checked:
    """Passes chunks on while counting and hashing; raises before the upload completes, and remembers why."""

    def __init__(self, chunks: AsyncIterator[bytes], digest: str, limit_b: int) -> None:
        self._chunks, self._digest, self._limit_b = chunks, digest, limit_b
        self.size = 0
        self.failure: Exception | None = None

    async def parts(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._check():
                yield chunk
        except Exception as error:
            self.failure = error
            raise

    async def _check(self) -> AsyncIterator[bytes]:
        digest = hashlib.sha256()
        async for chunk in self._chunks:
            self.size += len(chunk)
            if self.size > self._limit_b:
                raise LimitError(
                    f"the upload is larger than the limit of {self._limit_b} bytes",
                    hint="Leave large files out with .nexusignore, or bring them as an input.",
                )
            digest.update(chunk)
            yield chunk
        if digest.hexdigest() != self._digest:
            raise UsageError("the content does not have the digest it was sent under", hint="Send it again.")


def open_blobs(url: str) -> ObjectBlobs:
    """Blobs at `memory:`, a folder, or a URL such as `s3://bucket/prefix` (credentials from the usual variables).

    Raises UsageError for a URL of another kind.
    """
    if url == "memory:":
        return ObjectBlobs(MemoryStore())
    if "://" not in url:
        Path(url).mkdir(parents=True, exist_ok=True)
        return ObjectBlobs(LocalStore(url))
    try:
        return ObjectBlobs(from_url(url, retry_config=_RETRIES))
    except (BaseError, ValueError) as error:
        raise UsageError(
            f"no blobs can be kept at {url}: {_first_line(error)}", hint="Such as s3://bucket/prefix, or a folder."
        ) from error


def _key(digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise UsageError(f"{digest[:80]!r} is not a SHA-256 digest", hint="64 hex digits, lower case.")
    return f"{digest[:2]}/{digest}"


def _unavailable(error: Exception) -> UnavailableError:
    return UnavailableError(
        f"the blob storage does not answer: {_first_line(error)}",
        hint="Is the disk full, the bucket away, or a key of it wrong?",
    )


def _first_line(error: Exception) -> str:
    """The reason; behind it the library tells how it came to it."""
    return str(error).strip().partition("\n")[0][:300]
