"""Server-sent events: one-way, over plain HTTP, resumable by the id of the last one that was seen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec
from fastapi.responses import StreamingResponse


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event: `data` goes as one line of JSON; without any it is a comment that keeps the connection alive."""

    data: Any = None
    kind: str = "message"
    id: str = ""

    def encode(self) -> bytes:
        """The event's lines."""
        if self.data is None and self.kind == "message":
            return b":\n\n"
        name = b"id: %s\n" % self.id.encode() if self.id else b""
        return b"event: %s\n%sdata: %s\n\n" % (self.kind.encode(), name, msgspec.json.encode(self.data))


async def event_stream(events: AsyncIterator[ServerEvent]) -> StreamingResponse:
    """An answer that streams `events`. The first is awaited here, so that an error before it is an ordinary answer."""
    first = await anext(events, None)

    async def lines() -> AsyncIterator[bytes]:
        yield b"retry: 1000\n\n"
        if first is not None:
            yield first.encode()
        async for event in events:
            yield event.encode()

    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(lines(), media_type="text/event-stream", headers=headers)
