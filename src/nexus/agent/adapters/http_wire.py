"""A small HTTP/1.1 client on asyncio streams: keep-alive, TLS, bounded waits. httpx costs 10 MB and 1 ms a call."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import h11

from nexus.infra.websocket import WebSocket, open_websocket
from nexus.kernel.errors import UnavailableError, UsageError

_CONNECT_S = 10.0
_IDLE_KEPT = 4  # connections that wait for the next request
_IDLE_S = 30.0  # servers close them after a while: uvicorn after 5 s by default, proxies after 60
_CHUNK_B = 256 * 1024

Body = bytes | tuple[int, AsyncIterator[bytes]]  # the whole, or its size and its chunks


@dataclass
class Answer:
    """A response whose body is still to be read."""

    status: int
    headers: dict[str, str]
    _connection: _Connection = field(repr=False)
    _timeout_s: float

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body. Raises UnavailableError."""
        while True:
            event = await self._connection.next_event(self._timeout_s)
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return

    async def read(self, limit_b: int = 64 * 1024 * 1024) -> bytes:
        """The whole body. Raises UnavailableError."""
        parts, size = [], 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > limit_b:
                raise UnavailableError("the answer is too large to be meant")
            parts.append(chunk)
        return b"".join(parts)


class _BrokenError(Exception):
    """The connection broke before anything of an answer came."""


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT)
        self.idle_since = 0.0

    async def send(self, request: h11.Request, body: Body, timeout_s: float) -> None:
        try:
            self._write(request)
            if isinstance(body, bytes):
                if body:
                    self._write(h11.Data(data=body))
            else:
                async for chunk in body[1]:
                    self._write(h11.Data(data=chunk))
                    async with asyncio.timeout(timeout_s):
                        await self._writer.drain()
            self._write(h11.EndOfMessage())
            async with asyncio.timeout(timeout_s):
                await self._writer.drain()
        except (OSError, TimeoutError) as error:
            raise _BrokenError(str(error) or "the connection was cut") from error
        except h11.LocalProtocolError as error:
            raise UnavailableError(f"what is sent changed its size meanwhile: {error}") from error

    def _write(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> None:
        data = self._http.send(event)
        if data:
            self._writer.write(data)

    async def next_event(self, timeout_s: float) -> h11.Event:
        """The next part of the answer. Raises UnavailableError; _BrokenError if there was nothing at all."""
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                if self._http.their_state is h11.SEND_RESPONSE and not self._http.trailing_data[0]:
                    raise _BrokenError("the connection was closed") from error
                raise UnavailableError(f"the answer is no HTTP: {error}") from error
            if isinstance(event, h11.ConnectionClosed):
                raise _BrokenError("the connection was closed")
            if event is not h11.NEED_DATA and event is not h11.PAUSED:
                assert isinstance(event, h11.Event)  # noqa: S101 (what is left of the union)
                return event
            try:
                async with asyncio.timeout(timeout_s):
                    data = await self._reader.read(_CHUNK_B)
            except TimeoutError as error:
                raise UnavailableError(f"no answer within {timeout_s:g} s") from error
            except OSError as error:
                raise _BrokenError(str(error) or "the connection was cut") from error
            self._http.receive_data(data)

    def is_reusable(self, now: float) -> bool:
        is_fresh = now - self.idle_since < _IDLE_S
        return is_fresh and not self._reader.at_eof() and not self._writer.is_closing()

    def recycle(self) -> bool:
        """Ready for the next request, if both sides are done and want to go on."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            return True
        return False

    def close(self) -> None:
        self._writer.close()


class HttpWire:
    """One server. `url` may have a path, before which nothing else is sent. Raises UsageError if it is no HTTP URL."""

    def __init__(self, url: str, token: str, *, agent: str, ca_file: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise UsageError(f"{url!r} is not the URL of a server", hint="It looks like http://server.example:7777")
        self.url = url.rstrip("/")
        self.token = token
        self._host, self._port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        self._prefix = parts.path.rstrip("/")
        self._tls = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
        self._agent = agent
        self._idle: list[_Connection] = []

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    @asynccontextmanager
    async def request(
        self,
        method: str,
        path: str,
        body: Body = b"",
        *,
        kind: str = "application/octet-stream",
        timeout_s: float = 30.0,
    ) -> AsyncIterator[Answer]:
        """Send a request; gives its answer. A kept connection that turns out dead is replaced once.

        Raises UnavailableError.
        """
        connection, answer = await self._exchange(self._head(method, path, body, kind), body, timeout_s)
        try:
            yield answer
        except _BrokenError as error:
            connection.close()
            raise UnavailableError(f"the answer of {self.url} broke off: {error}") from error
        except BaseException:
            connection.close()
            raise
        if connection.recycle() and len(self._idle) < _IDLE_KEPT:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.append(connection)
        else:
            connection.close()

    async def upgrade(self, path: str, *, message_b: int) -> WebSocket:
        """A WebSocket, on a connection of its own. Raises UnavailableError, or the error that the server answers."""
        headers = {"user-agent": self._agent, "authorization": f"Bearer {self.token}"}
        return await open_websocket(self.url + path, headers, tls=self._tls, message_b=message_b)

    async def _exchange(self, head: h11.Request, body: Body, timeout_s: float) -> tuple[_Connection, Answer]:
        while True:
            connection, is_kept = await self._connection()
            try:
                await connection.send(head, body, timeout_s)
                event = await connection.next_event(timeout_s)
                while isinstance(event, h11.InformationalResponse):
                    event = await connection.next_event(timeout_s)
            except _BrokenError as error:
                connection.close()
                if is_kept and isinstance(body, bytes):
                    continue
                raise self._unavailable(str(error)) from error
            except BaseException:
                connection.close()
                raise
            assert isinstance(event, h11.Response)  # noqa: S101 (h11 gives nothing else first)
            headers = {name.decode("ascii"): value.decode("latin-1") for name, value in event.headers}
            return connection, Answer(event.status_code, headers, connection, timeout_s)

    async def _connection(self) -> tuple[_Connection, bool]:
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection = self._idle.pop()
            if connection.is_reusable(now):
                return connection, True
            connection.close()
        try:
            async with asyncio.timeout(_CONNECT_S):
                reader, writer = await asyncio.open_connection(
                    self._host, self._port, ssl=self._tls, limit=2 * _CHUNK_B
                )
        except TimeoutError as error:
            raise self._unavailable(f"no connection within {_CONNECT_S:g} s") from error
        except ssl.SSLCertVerificationError as error:
            raise self._unavailable(f"its certificate is not trusted: {error.verify_message}") from error
        except OSError as error:
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
            raise self._unavailable(why) from error
        return _Connection(reader, writer), False

    def _head(self, method: str, path: str, body: Body, kind: str) -> h11.Request:
        size = len(body) if isinstance(body, bytes) else body[0]
        headers = [
            ("host", f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"),
            ("user-agent", self._agent),
            ("accept", "application/json"),
            *([("authorization", f"Bearer {self.token}")] if self.token else []),
            *([("content-type", kind), ("content-length", str(size))] if method in {"POST", "PUT"} else []),
        ]
        return h11.Request(method=method, target=self._prefix + path, headers=headers)

    def _unavailable(self, why: str) -> UnavailableError:
        return UnavailableError(f"no answer from {self.url}: {why}", hint="Is the server up, and reachable from here?")
