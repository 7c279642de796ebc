"""A client's connection: reads requests one after the other, and answers them in order."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, cast

import httptools

from nexus.deploy.adapters.gateway.answers import error
from nexus.deploy.adapters.gateway.exchange import Exchange
from nexus.deploy.core.headers import STATUS_LINES, read_request
from nexus.kernel.errors import UsageError

if TYPE_CHECKING:
    from nexus.deploy.adapters.gateway.server import Gateway

HEAD_B = 64 * 1024
HEAD_S = 15.0  # for a request's head, from its first byte
IDLE_S = 75.0  # between requests
LINGER_S = 2.0  # for what a refused client still sends


class Front(asyncio.Protocol):
    """One client. While a request is under way, the next ones on the same connection wait unread."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.transport: asyncio.Transport
        self.parser = httptools.HttpRequestParser(self)
        self.peer = b""
        self.slot = -1
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.head_b = 0
        self.head_since = 0.0  # 0: no head is being read
        self.quiet_since = gateway.loop.time()
        self.latest: Exchange | None = None  # whose body is being read
        self.current: Exchange | None = None  # who is being answered
        self.waiting: deque[Exchange] = deque()
        self.refusal: tuple[int, str] | None = None
        self.close_after = False
        self.held = False
        self.lingering = False

    # ------------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]).encode() if peer else b"unknown"
        self.gateway.fronts.add(self)
        self.gateway.wheel.add(self, HEAD_S)
        if len(self.gateway.fronts) > self.gateway.most_clients:
            self._refuse(503, "too many connections")

    def connection_lost(self, exc: Exception | None) -> None:
        self.gateway.left(self)
        self.gateway.wheel.drop(self)
        self.waiting.clear()
        if self.current is not None:
            self.current.gone()

    def data_received(self, data: bytes) -> None:
        if self.refusal is not None or self.lingering:
            return
        if self.latest is None:
            self.head_b += len(data)
            self.head_since = self.head_since or self.gateway.loop.time()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as wish:  # answered as if it had not been wished for (RFC 9110 7.8)
            rest = data[wish.args[0] :]
            if rest:
                self.data_received(rest)
        except httptools.HttpParserError as problem:
            cause = problem.__context__
            said = cause.message if isinstance(cause, UsageError) else f"the request cannot be read: {problem}"
            self._refuse(400, said)
        else:
            if self.latest is None and self.head_b > HEAD_B:
                self._refuse(431, f"the request's head is larger than {HEAD_B} bytes")

    def pause_writing(self) -> None:
        if self.current is not None and self.current.upstream is not None:
            self.current.upstream.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.current is not None and self.current.upstream is not None:
            self.current.upstream.transport.resume_reading()

    # ------------------------------------------------------------------ the parser's callbacks

    def on_message_begin(self) -> None:
        self.target, self.headers, self.latest = b"", [], None

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.latest is None:  # else: a trailer, which ends here
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.transport.is_closing() or self.lingering:
            return
        parser = self.parser
        head = read_request(parser.get_method(), self.target, parser.get_http_version(), self.headers)
        if parser.should_upgrade() and (head.length or head.chunked or head.method == b"CONNECT"):
            raise UsageError("another protocol cannot be spoken through the gateway")
        self.head_b, self.head_since = 0, 0.0
        self.latest = exchange = Exchange(self.gateway, self, head)
        if self.current is None:
            self.current = exchange
            if head.length or head.chunked:
                exchange.start()  # else the end of the message follows at once, and starts it whole
        else:
            self.waiting.append(exchange)
            self.transport.pause_reading()

    def on_body(self, data: bytes) -> None:
        if self.latest is not None:
            self.latest.body(data)

    def on_message_complete(self) -> None:
        exchange, self.latest = self.latest, None
        if exchange is not None:
            exchange.body_end()
            if exchange is self.current and not exchange.started:
                exchange.start()

    # ------------------------------------------------------------------ for the exchange

    def write(self, data: bytes) -> None:
        """Bytes for the client."""
        if not self.transport.is_closing() and not self.lingering:
            self.transport.write(data)

    def hold(self, held: bool) -> None:
        """Stop or go on reading from the client."""
        if held is not self.held and not self.transport.is_closing():
            self.held = held
            if held:
                self.transport.pause_reading()
            elif not self.waiting:
                self.transport.resume_reading()

    def finished(self, exchange: Exchange, *, abort: bool) -> None:
        """The exchange is over: close, or turn to the next request."""
        if exchange is not self.current:
            return
        self.current = None
        self.quiet_since = self.gateway.loop.time()
        if abort:
            self.transport.abort()
        elif self.refusal is not None:
            self._say(*self.refusal)
        elif self.close_after or self.gateway.draining:
            self._leave(unread=not exchange.body_whole)
        elif self.waiting:
            self.current = self.waiting.popleft()
            self.gateway.loop.call_soon(self._start, self.current)
        elif self.held:
            self.hold(False)

    def _start(self, exchange: Exchange) -> None:
        if exchange is self.current and not exchange.started:
            if not self.waiting:
                self.held = False
                self.transport.resume_reading()
            exchange.start()

    def expired(self) -> None:
        """The wheel came by: close a silent connection, and one whose head does not come to its end."""
        now = self.gateway.loop.time()
        if self.lingering:
            self.transport.abort()
        elif self.head_since and now - self.head_since >= HEAD_S:
            self._refuse(408, f"the request's head did not come within {HEAD_S:.0f} s")
        elif self.current is None and not self.head_since and now - self.quiet_since >= IDLE_S:
            self.transport.close()
        else:
            self.gateway.wheel.add(self, HEAD_S / 3)

    def close_when_idle(self) -> None:
        """The gateway drains."""
        self.close_after = True
        if self.current is None:
            self.transport.close()

    def _refuse(self, status: int, message: str) -> None:
        """What was sent cannot be read, so nothing after it can: answer, and close. Requests before it go first."""
        self.refusal = (status, message)
        exchange = self.current
        if exchange is not None and exchange is self.latest:
            self.current = None
            exchange.gone()
        if self.current is None:
            self._say(status, message)
        elif not self.transport.is_closing():
            self.transport.pause_reading()

    def _say(self, status: int, message: str) -> None:
        body = error(status, "usage" if status < 500 else "unavailable", message, "")
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.write(STATUS_LINES[status] + head + body)
        self._leave(unread=True)

    def _leave(self, *, unread: bool) -> None:
        """Close; with bytes still to come, only our half at first: a reset would take our last answer with it."""
        self.close_after = True
        if not unread or self.transport.is_closing() or not self.transport.can_write_eof():
            self.transport.close()
            return
        self.lingering = True
        self.transport.write_eof()
        self.transport.resume_reading()
        self.gateway.wheel.drop(self)
        self.gateway.wheel.add(self, LINGER_S)
