"""Bytes by digest: who may read what. A digest is a name that can be guessed, not a key.

A project may read a blob if somebody of it has sent these very bytes (an `Upload` record says so).
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable

from nexus.kernel.blobs import Blobs
from nexus.kernel.clock import Clock
from nexus.kernel.errors import ConflictError, LimitError, NotFoundError, UsageError
from nexus.kernel.identity import Principal
from nexus.kernel.ids import new_id
from nexus.kernel.records import Records
from nexus.track.model import UPLOADS, Upload, check_digest

BLOB_MAX_B = 100 * 1024**3


class Uploads:
    """Blobs, with the question of who may read them answered."""

    def __init__(self, records: Records, blobs: Blobs, clock: Clock, entropy: Callable[[int], bytes]) -> None:
        self._records = records
        self._blobs = blobs
        self._clock = clock
        self._entropy = entropy

    async def put(
        self, principal: Principal, digest: str, chunks: AsyncIterator[bytes], *, limit_b: int = BLOB_MAX_B
    ) -> int:
        """Store, and let the caller's project read it. Returns the size.

        Raises UsageError if the content has another digest, LimitError if it is larger than `limit_b`.
        """
        if await self._blobs.size(check_digest(digest)) is None:
            size = await self._blobs.put(digest, chunks, limit_b=limit_b)
        else:
            size = await _prove(digest, chunks, limit_b)  # the bytes are here, but the caller must have them too
        await self.grant(principal.project, digest, size)
        return size

    async def grant(self, project: str, digest: str, size_b: int) -> None:
        """Let `project` read `digest`, which it proved to have."""
        if await self._records.find(UPLOADS, {"project": project, "digest": digest}, limit=1):
            return
        upload = Upload(
            id=new_id("up", self._entropy(8)),
            project=project,
            created=self._clock.now(),
            digest=digest,
            size_b=size_b,
        )
        try:
            await self._records.apply((UPLOADS, upload))
        except ConflictError:
            return  # another request of the same project said the same at the same moment

    async def size(self, project: str, digest: str) -> int:
        """Bytes of what the project may read. Raises NotFoundError: also for what only others have."""
        if await self._records.find(UPLOADS, {"project": project, "digest": check_digest(digest)}, limit=1):
            size = await self._blobs.size(digest)
            if size is not None:
                return size
        raise NotFoundError(f"no blob {digest[:12]}", hint="Upload it first: PUT /v1/blobs/SHA256.")

    async def open(self, project: str, digest: str, start: int = 0) -> tuple[int, AsyncIterator[bytes]]:
        """The size, and the content from byte `start` on. Raises NotFoundError."""
        size = await self.size(project, digest)
        return size, self._blobs.open(digest, start)


async def _prove(digest: str, chunks: AsyncIterator[bytes], limit_b: int) -> int:
    """Read and hash, without storing. Raises UsageError, LimitError."""
    size, found = 0, hashlib.sha256()
    async for chunk in chunks:
        size += len(chunk)
        if size > limit_b:
            raise LimitError(f"the upload is larger than the limit of {limit_b} bytes")
        found.update(chunk)
    if found.hexdigest() != digest:
        raise UsageError("the content does not have the digest it was sent under", hint="Send it again.")
    return size
