"""Content-addressed bytes: workspaces, artifacts, model weights."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol


class Blobs(Protocol):
    """Keep bytes under the SHA-256 of their content (64 hex digits). Storing twice is storing once."""

    async def put(self, digest: str, chunks: AsyncIterator[bytes], *, limit_b: int) -> int:
        """Store and return the size. Raises UsageError if the content has another digest, LimitError if larger."""
        ...

    async def size(self, digest: str) -> int | None:
        """Bytes, or None if it is not here."""
        ...

    def open(self, digest: str, start: int = 0) -> AsyncIterator[bytes]:
        """The content from byte `start` on, in chunks. Raises NotFoundError."""
        ...

    async def drop(self, digest: str) -> None:
        """Forget it; nothing happens if it is not here."""
        ...
