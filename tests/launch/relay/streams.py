"""Both ends of a call in memory: what one side sends, the other receives, with room for a few messages on their way."""

from __future__ import annotations

import asyncio

from nexus.kernel.errors import UnavailableError
from nexus.launch.ports import Stream

_ROOM = 4


class _Line:
    """One direction."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.room = asyncio.Semaphore(_ROOM)


class Wire:
    """One end, as `launch.ports.Stream`."""

    def __init__(self, incoming: _Line, outgoing: _Line) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self.why: str | None = None  # once this end was closed
        self.is_cut = False

    async def send(self, message: bytes) -> None:
        if self.is_cut or self.why is not None:
            raise UnavailableError("cut")
        await self._outgoing.room.acquire()
        self._outgoing.messages.put_nowait(message)

    async def receive(self) -> bytes | None:
        said = await self._incoming.messages.get()
        if said is not None:
            self._incoming.room.release()
        return said

    async def close(self, why: str = "") -> None:
        if self.why is None:
            self.why = why
            self._outgoing.messages.put_nowait(None)

    @property
    def sent(self) -> int:
        """Messages that wait for the other end."""
        return self._outgoing.messages.qsize()


def pair() -> tuple[Wire, Wire]:
    """Two ends."""
    there, back = _Line(), _Line()
    return Wire(there, back), Wire(back, there)


def _is_stream(wire: Wire) -> Stream:
    return wire
