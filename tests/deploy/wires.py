"""Real sockets for the gateway's tests: a scripted backend, and a client that sees every byte."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from nexus.deploy.adapters.gateway.server import Gateway
from nexus.deploy.model import Limits, Replica, Route, Routes
from nexus.kernel.identity import Principal, PrincipalKind, Role

KEY = "the-key"
KEYS = {
    KEY: Principal(PrincipalKind.USER, "ada", "lab", Role.MEMBER),
    "other": Principal(PrincipalKind.USER, "eve", "elsewhere", Role.MEMBER),
    "node": Principal(PrincipalKind.NODE, "node_1", "lab", Role.VIEWER),
}


@dataclass
class Message:
    start: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def status(self) -> int:
        return int(self.start.split()[1])


async def read_message(reader: asyncio.StreamReader, *, body: bool = True) -> Message:
    """One request or answer. Raises asyncio.IncompleteReadError when the other side closes before its end."""
    raw = await reader.readuntil(b"\r\n\r\n")
    start, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    message = Message(start, headers)
    if not body:
        return message
    if headers.get("transfer-encoding") == "chunked":
        parts = []
        while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
            parts.append((await reader.readexactly(size + 2))[:-2])
        message.body = b"".join(parts)
        await reader.readexactly(2)
    elif "content-length" in headers:
        message.body = await reader.readexactly(int(headers["content-length"]))
    elif start.startswith("HTTP/"):
        message.body = await reader.read()
    return message


Handler = Callable[[Message, asyncio.StreamWriter], Awaitable[None]]


async def echo(request: Message, writer: asyncio.StreamWriter) -> None:
    """Answers with what came."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(request.body) + request.body)


@dataclass
class Backend:
    """A replica of raw sockets."""

    handler: Handler = echo
    requests: list[Message] = field(default_factory=list)
    connections: int = 0
    server: asyncio.Server | None = None
    port: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def start(self) -> Backend:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            while True:
                request = await read_message(reader)
                self.requests.append(request)
                await self.handler(request, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def stop(self) -> None:
        if self.server is not None:
            self.server.close()
            for writer in self.writers:
                writer.transport.abort()
            await self.server.wait_closed()
            self.server = None

    def replica(self, name: str, revision: int = 1) -> Replica:
        return Replica(name, "127.0.0.1", self.port, revision)


@asynccontextmanager
async def backends(*handlers: Handler):
    found = [await Backend(handler).start() for handler in handlers]
    try:
        yield found
    finally:
        for backend in found:
            await backend.stop()


@asynccontextmanager
async def gateway(*replicas: Replica, limits: Limits | None = None, openai: bool = False, pure: bool = True):
    """A gateway with one endpoint, `digits` of the project `lab`."""

    async def authenticate(key: str) -> Principal | None:
        await asyncio.sleep(0)
        return KEYS.get(key)

    found = Gateway(authenticate)
    await found.start()
    found.follow(routes(*replicas, limits=limits, openai=openai, pure=pure))
    try:
        yield found
    finally:
        await found.close(drain_s=1)


def routes(
    *replicas: Replica, version: int = 1, limits: Limits | None = None, openai: bool = False, pure: bool = True
) -> Routes:
    route = Route(
        project="lab", endpoint="digits", replicas=replicas, openai=openai, pure=pure, limits=limits or Limits()
    )
    return Routes(version, (route,))


class Client:
    """A connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, raw: bytes) -> None:
        self.writer.write(raw)

    def ask(self, method: str = "POST", path: str = "/e/digits/predict", body: bytes = b"{}", extra: str = "") -> None:
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n{extra}"
        self.send(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    async def answer(self, *, body: bool = True) -> Message:
        async with asyncio.timeout(10):
            return await read_message(self.reader, body=body)

    async def rest(self) -> bytes:
        """Everything until the gateway closes."""
        async with asyncio.timeout(10):
            return await self.reader.read()


@asynccontextmanager
async def client(gateway: Gateway):
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


async def until(true: Callable[[], bool], timeout_s: float = 30) -> None:
    """Poll until it is true; TimeoutError at the bound."""
    async with asyncio.timeout(timeout_s):
        while not true():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.002)


async def busy_with(door: Gateway, replica: str) -> None:
    """Wait until the replica has a request."""
    await until(lambda: door.outstanding(replica) > 0)
