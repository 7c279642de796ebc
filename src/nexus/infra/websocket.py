"""A small WebSocket client on asyncio streams, for byte streams through proxies: no compression, bounded messages.

For the agent, whose process a library's import would make a tenth larger, and for the command line.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import ssl
import struct
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import h11
import msgspec

from nexus.kernel.errors import NexusError, UnavailableError, from_dict

_CONNECT_S = 10.0
_CLOSE_S = 2.0
_BUFFER_B = 128 * 1024
_ANSWER_B = 1024 * 1024
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
_CONTINUED, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_GOING_AWAY = {1001, 1012}


class WebSocket:
    """One open connection. `send` and `receive` may run at the same time; each may be called from one place only."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message_b: int) -> None:
        self._reader = reader
        self._writer = writer
        self._message_b = message_b
        self._closed = False
        self.why = ""  # how it ended, in words, once `receive` gave None

    async def send(self, message: bytes) -> None:
        """Send it, once there is room. Raises UnavailableError when the other side is gone."""
        try:
            self._write(_BINARY, message)
            await self._writer.drain()
        except (OSError, RuntimeError) as error:
            raise UnavailableError(f"the connection was cut: {error}") from error

    async def receive(self) -> bytes | None:
        """The next message; None once the other side has closed, or is gone."""
        parts: list[bytes] = []
        try:
            while True:
                opcode, is_last, payload = await self._frame()
                if opcode == _CLOSE:
                    self._closed_by(payload)
                    return None
                if opcode == _PING:
                    self._write(_PONG, payload)
                elif opcode in {_CONTINUED, _TEXT, _BINARY}:
                    parts.append(payload)
                    if sum(map(len, parts)) > self._message_b:
                        raise UnavailableError("a message is too long to be meant")
                    if is_last:
                        return b"".join(parts)
        except (OSError, asyncio.IncompleteReadError, RuntimeError) as error:
            self.why = self.why or f"the connection was cut{f': {error}' if isinstance(error, OSError) else ''}"
            return None

    async def close(self) -> None:
        """Say goodbye, let what was sent arrive, and hang up. Nothing if that was done before."""
        if self._closed:
            return
        self._closed = True
        try:
            async with asyncio.timeout(_CLOSE_S):
                self._write(_CLOSE, struct.pack(">H", 1000))
                await self._writer.drain()
                while await self._reader.read(_BUFFER_B):
                    pass  # the other side's goodbye, and what it sent before
        except (OSError, RuntimeError, TimeoutError):
            pass
        finally:
            self._writer.close()

    def abort(self) -> None:
        """Hang up at once."""
        self._closed = True
        self._writer.transport.abort()

    def _closed_by(self, payload: bytes) -> None:
        code = struct.unpack(">H", payload[:2])[0] if len(payload) >= 2 else 1005
        said = payload[2:].decode("utf-8", "replace")
        self.why = said or ("the server is going down" if code in _GOING_AWAY else "the other side has hung up")
        if not self._closed:
            self._closed = True
            self._write(_CLOSE, payload[:2])
            self._writer.close()

    async def _frame(self) -> tuple[int, bool, bytes]:
        first, second = await self._reader.readexactly(2)
        size = second & 0x7F
        if size == 126:
            size = struct.unpack(">H", await self._reader.readexactly(2))[0]
        elif size == 127:
            size = struct.unpack(">Q", await self._reader.readexactly(8))[0]
        if second & 0x80 or first & 0x70 or size > self._message_b:
            raise UnavailableError("what came is no WebSocket frame of a server")
        return first & 0x0F, bool(first & 0x80), await self._reader.readexactly(size)

    def _write(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            head = struct.pack(">BB", 0x80 | opcode, 0x80 | size)
        elif size < 65536:
            head = struct.pack(">BBH", 0x80 | opcode, 0x80 | 126, size)
        else:
            head = struct.pack(">BBQ", 0x80 | opcode, 0x80 | 127, size)
        mask = os.urandom(4)
        self._writer.write(head + mask + _masked(payload, mask))


async def open_websocket(
    url: str,
    headers: Mapping[str, str],
    *,
    tls: ssl.SSLContext | None = None,
    message_b: int = 1024 * 1024,
    timeout_s: float = 30.0,
) -> WebSocket:
    """Connect to an http(s) `url`; messages longer than `message_b` are refused.

    Raises UnavailableError, or the server's own error when it answers with one.
    """
    parts = urlsplit(url)
    host, is_tls = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if is_tls else 80)
    context = (tls or ssl.create_default_context()) if is_tls else None
    try:
        async with asyncio.timeout(_CONNECT_S):
            reader, writer = await asyncio.open_connection(host, port, ssl=context, limit=_BUFFER_B)
    except TimeoutError as error:
        raise _unavailable(url, f"no connection within {_CONNECT_S:g} s") from error
    except OSError as error:
        raise _unavailable(url, str(error)) from error
    writer.transport.set_write_buffer_limits(high=_BUFFER_B)
    try:
        async with asyncio.timeout(timeout_s):
            await _shake_hands(reader, writer, url, headers)
    except TimeoutError as error:
        writer.transport.abort()
        raise _unavailable(url, f"no answer within {timeout_s:g} s") from error
    except (OSError, EOFError, asyncio.LimitOverrunError, h11.ProtocolError) as error:
        writer.transport.abort()
        raise _unavailable(url, "the connection was cut") from error
    except BaseException:
        writer.transport.abort()
        raise
    return WebSocket(reader, writer, message_b)


async def _shake_hands(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, url: str, headers: Mapping[str, str]
) -> None:
    """Ask for the switch of protocols. Raises NexusError, EOFError, h11.ProtocolError."""
    parts = urlsplit(url)
    key = base64.b64encode(os.urandom(16))
    http = h11.Connection(h11.CLIENT)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    asked: list[tuple[Any, Any]] = [
        ("host", parts.netloc.rpartition("@")[2]),
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("sec-websocket-key", key),
        ("sec-websocket-version", "13"),
        *headers.items(),
    ]
    writer.write(http.send(h11.Request(method="GET", target=target, headers=asked)) or b"")
    writer.write(http.send(h11.EndOfMessage()) or b"")
    await writer.drain()
    http.receive_data(await reader.readuntil(b"\r\n\r\n"))  # and no byte of the first frame
    answer = http.next_event()
    if isinstance(answer, h11.InformationalResponse) and answer.status_code == 101:
        accepted = {bytes(name): bytes(value) for name, value in answer.headers}.get(b"sec-websocket-accept")
        wanted = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
        if accepted != wanted:
            raise _unavailable(url, "it is no WebSocket server")
        return
    status, body = getattr(answer, "status_code", 502), b""
    while isinstance(event := await _next_event(http, reader), h11.Data) and len(body) < _ANSWER_B:
        body += bytes(event.data)
    raise _error(status, body)


async def _next_event(http: h11.Connection, reader: asyncio.StreamReader) -> object:
    while (event := http.next_event()) is h11.NEED_DATA:
        http.receive_data(await reader.read(_BUFFER_B))
    return event


def _error(status: int, body: bytes) -> NexusError:
    try:
        said = msgspec.json.decode(body, type=dict) if body else {}
    except msgspec.DecodeError:
        said = {}
    return from_dict(said, status)


def _unavailable(url: str, why: str) -> UnavailableError:
    parts = urlsplit(url)
    where = f"{parts.scheme}://{parts.netloc}"
    return UnavailableError(f"no answer from {where}: {why}", hint="Is the server up, and reachable from here?")


def _masked(payload: bytes, mask: bytes) -> bytes:
    """Each byte XOR one of the mask's four, as one large number: 1 GB/s without a line of C."""
    size = len(payload)
    cover = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(cover, "little")).to_bytes(size, "little")
