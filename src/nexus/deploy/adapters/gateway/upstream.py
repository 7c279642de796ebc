"""Connections to replicas: kept alive, taken last in first out, each with one request at a time."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

import httptools

from nexus.deploy.adapters.gateway.wheel import Wheel
from nexus.deploy.core.headers import AnswerHead, read_answer
from nexus.kernel.errors import UsageError

Address = tuple[str, int]

IDLE_S = 4.0  # llama.cpp closes a silent connection after 5 s, uvicorn too
CONNECT_S = 3.0
_SWEEP_S = 2.0


class Answered(Protocol):
    """Who asked."""

    method: bytes

    def answer_begins(self, status: int, head: AnswerHead) -> None: ...
    def answer_body(self, data: bytes) -> None: ...
    def answer_goes_on(self) -> None: ...
    def answer_ends(self) -> None: ...
    def answer_broke(self, upstream: Upstream) -> None: ...
    def upstream_full(self, *, full: bool) -> None: ...


class Upstream(asyncio.Protocol):
    """One connection to a replica. Its parser reads answer after answer."""

    def __init__(self, pool: Pool, address: Address) -> None:
        self.pool = pool
        self.address = address
        self.transport: asyncio.Transport
        self.parser = httptools.HttpResponseParser(self)
        self.exchange: Answered | None = None
        self.headers: list[tuple[bytes, bytes]] = []
        self.reused = False
        self.touched = False  # a byte of the answer came
        self.keep = True
        self.interim = False
        self.until_close = False
        self.complete = False
        self.idle_since = 0.0

    # ------------------------------------------------------------------ for the exchange

    def begin(self, exchange: Answered, message: bytes) -> None:
        """Send a request, or the beginning of one."""
        self.exchange = exchange
        self.touched = self.complete = self.until_close = False
        self.transport.write(message)

    def abandon(self) -> None:
        """The exchange is over before its answer: this connection cannot be used again."""
        self.exchange = None
        self.transport.abort()

    # ------------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:  # it speaks without being asked
            self.pool.forget(self)
            self.transport.abort()
            return
        self.touched = True
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.exchange = None
            self.transport.abort()
            exchange.answer_broke(self)
            return
        if self.complete:
            self._finish(exchange)
        else:
            exchange.answer_goes_on()

    def connection_lost(self, exc: Exception | None) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            self.pool.forget(self)
        elif self.until_close and exc is None:
            exchange.answer_ends()
        else:
            exchange.answer_broke(self)

    def pause_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.upstream_full(full=True)

    def resume_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.upstream_full(full=False)

    # ------------------------------------------------------------------ the parser's callbacks

    def on_message_begin(self) -> None:
        self.headers = []
        if self.complete:
            raise UsageError("a second answer to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        exchange, status = self.exchange, self.parser.get_status_code()
        self.interim = status < 200
        if self.interim or exchange is None:
            return
        head = read_answer(self.headers)
        self.keep = self.parser.should_keep_alive()
        bodiless = status in {204, 304} or exchange.method == b"HEAD"
        if bodiless and exchange.method == b"HEAD":
            self.complete, self.keep = True, False  # the parser would wait for a body that never comes
        self.until_close = not bodiless and not head.chunked and head.length is None
        exchange.answer_begins(status, head)

    def on_body(self, data: bytes) -> None:
        if self.exchange is not None and not self.interim:
            self.exchange.answer_body(data)

    def on_message_complete(self) -> None:
        if not self.interim:
            self.complete = True

    def _finish(self, exchange: Answered) -> None:
        self.exchange = None
        keep = self.keep
        exchange.answer_ends()
        if keep and not self.transport.is_closing():
            self.pool.release(self)
        else:
            self.transport.close()


class Pool:
    """Idle connections by address."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wheel: Wheel) -> None:
        self._loop = loop
        self._wheel = wheel
        self._idle: dict[Address, list[Upstream]] = {}
        self.slot = -1

    def take(self, address: Address) -> Upstream | None:
        """The idle connection that was used last, if there is one that its replica still keeps."""
        idle = self._idle.get(address)
        while idle:
            upstream = idle.pop()
            if not upstream.transport.is_closing() and self._loop.time() - upstream.idle_since < IDLE_S:
                upstream.reused = True
                return upstream
            upstream.transport.close()
        return None

    async def connect(self, address: Address) -> Upstream:
        """A new connection. Raises OSError, TimeoutError."""
        async with asyncio.timeout(CONNECT_S):
            _, upstream = await self._loop.create_connection(lambda: Upstream(self, address), *address)
        return upstream

    def release(self, upstream: Upstream) -> None:
        """Keep it for the next request."""
        upstream.idle_since = self._loop.time()
        upstream.transport.resume_reading()
        self._idle.setdefault(upstream.address, []).append(upstream)
        if self.slot < 0:
            self._wheel.add(self, _SWEEP_S)

    def forget(self, upstream: Upstream) -> None:
        """It was closed."""
        idle = self._idle.get(upstream.address)
        if idle and upstream in idle:
            idle.remove(upstream)

    def keep_only(self, addresses: set[Address]) -> None:
        """Close idle connections to replicas that are gone."""
        for address in [a for a in self._idle if a not in addresses]:
            for upstream in self._idle.pop(address):
                upstream.transport.close()

    def expired(self) -> None:
        """Close what was idle for too long."""
        self.slot = -1
        oldest = self._loop.time() - IDLE_S
        for address, idle in list(self._idle.items()):
            for upstream in idle:
                if upstream.idle_since < oldest:
                    upstream.transport.close()
            self._idle[address] = [u for u in idle if u.idle_since >= oldest]
            if not self._idle[address]:
                del self._idle[address]
        if self._idle:
            self._wheel.add(self, _SWEEP_S)

    def close(self) -> None:
        """Close every idle connection."""
        self.keep_only(set())
