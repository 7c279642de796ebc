"""The small WebSocket client, against the server that we use, and against one that misbehaves."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from nexus.agent.adapters.http_wire import HttpWire
from nexus.infra.websocket import _masked, open_websocket
from nexus.kernel.errors import DeniedError, NotFoundError, UnavailableError
from tests.ports import free_port

pytestmark = pytest.mark.anyio
Asgi = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


@asynccontextmanager
async def serving(app: Asgi, **options: Any) -> AsyncIterator[str]:
    listening = socket.create_server(("127.0.0.1", free_port()))
    config = uvicorn.Config(app, log_config=None, lifespan="off", ws_ping_interval=None, **options)
    server = uvicorn.Server(config)
    server.capture_signals = _no_signals  # type: ignore[method-assign]
    task = asyncio.ensure_future(server.serve([listening]))
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


def _no_signals() -> Any:
    return nullcontext()


async def echo(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Sends back what comes; closes at `bye`."""
    await receive()
    await send({"type": "websocket.accept"})
    while (said := await receive())["type"] == "websocket.receive":
        if said.get("bytes") == b"bye":
            await send({"type": "websocket.close", "code": 1000, "reason": "as you wish"})
            return
        await send({"type": "websocket.send", "bytes": said["bytes"]})


async def refuse(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await receive()
    body = b'{"error": {"code": "not_found", "message": "no such call", "hint": "ask again"}}'
    status = 404 if scope["path"] == "/here" else 401
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body if status == 404 else b"x" * len(body)})


async def test_messages_of_every_size_come_back_as_they_went() -> None:
    async with serving(echo) as url:
        wire = await open_websocket(url + "/x?y=1", {"authorization": "Bearer t"})
        for size in (0, 1, 125, 126, 127, 65535, 65536, 300_001):
            data = os.urandom(size)
            await wire.send(data)
            assert await wire.receive() == data
        await wire.send(b"bye")
        assert await wire.receive() is None
        assert wire.why == "as you wish"
        await wire.close()


async def test_a_refusal_is_the_servers_own_error() -> None:
    async with serving(refuse) as url:
        with pytest.raises(NotFoundError, match="no such call") as caught:
            await open_websocket(url + "/here", {})
        assert caught.value.hint == "ask again"
        with pytest.raises(DeniedError):  # by its status, where the body says nothing
            await open_websocket(url + "/there", {})


async def test_a_writer_waits_for_a_slow_reader() -> None:
    gate = asyncio.Event()
    read = 0

    async def slow(scope: dict[str, Any], receive: Any, send: Any) -> None:
        nonlocal read
        await receive()
        await send({"type": "websocket.accept"})
        await gate.wait()
        while (said := await receive())["type"] == "websocket.receive":
            read += len(said["bytes"])

    async with serving(slow) as url:
        wire = await open_websocket(url, {})
        written = 0

        async def write() -> None:
            nonlocal written
            for _ in range(1000):
                await wire.send(b"x" * 65536)
                written += 65536

        writing = asyncio.ensure_future(write())
        await asyncio.sleep(0.3)
        assert not writing.done()
        assert written < 20_000_000, "sockets and buffers are full, and nothing else grows"
        gate.set()
        await writing
        await wire.close()
        assert read == 65_536_000


async def test_a_server_that_goes_down_says_so() -> None:
    stack = serving(echo)
    url = await stack.__aenter__()
    wire = await open_websocket(url, {})
    await wire.send(b"x")
    assert await wire.receive() == b"x"
    await stack.__aexit__(None, None, None)
    assert await wire.receive() is None
    assert wire.why == "the server is going down"

    async def go_on() -> None:
        for _ in range(100):
            await wire.send(b"x" * 65536)

    with pytest.raises(UnavailableError):
        await go_on()


@asynccontextmanager
async def misbehaving(answer: Callable[[bytes], bytes]) -> AsyncIterator[str]:
    """A server that says what `answer` makes of the request's key, and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        key = head.lower().partition(b"sec-websocket-key: ")[2]
        raw = head[len(head) - len(key) :].partition(b"\r\n")[0]
        writer.write(answer(raw))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def switched(key: bytes) -> bytes:
    proof = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    return head + proof + b"\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: b"",
        lambda _: b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        lambda _: b"SSH-2.0-OpenSSH_9\r\n\r\n",
        lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        lambda _: b"x" * 300_000,
    ],
    ids=["nothing", "no proof", "no HTTP", "cut short", "endless"],
)
async def test_what_is_no_websocket_server(answer: Callable[[bytes], bytes]) -> None:
    async with misbehaving(answer) as url:
        with pytest.raises(UnavailableError, match=r"no answer from|status 200"):
            await open_websocket(url, {}, timeout_s=2.0)


@pytest.mark.parametrize(
    ("frames", "error"),
    [
        (b"\x82\xff" + b"\xff" * 8, "no WebSocket frame"),  # masked, as a server must not
        (b"\x82\x7f" + (2**40).to_bytes(8, "big"), "no WebSocket frame"),  # a terabyte
        (b"\xc2\x01x", "no WebSocket frame"),  # compressed, which nobody agreed on
        ((b"\x02\x7d" + b"x" * 125) * 2 + b"\x00\x7d" + b"x" * 125, "too long"),  # pieces without an end
    ],
)
async def test_frames_that_no_server_sends(frames: bytes, error: str) -> None:
    async with misbehaving(lambda key: switched(key) + frames) as url:
        wire = await open_websocket(url, {}, message_b=300)
        with pytest.raises(UnavailableError, match=error):
            await wire.receive()
        wire.abort()


async def test_pieces_and_pings_between_them() -> None:
    frames = b"\x02\x02ab" + b"\x89\x01p" + b"\x80\x01c" + b"\x82\x01d"
    async with misbehaving(lambda key: switched(key) + frames) as url:
        wire = await open_websocket(url, {})
        assert await wire.receive() == b"abc"
        assert await wire.receive() == b"d"
        assert await wire.receive() is None
        assert "cut" in wire.why
        wire.abort()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
async def test_calls_go_over_tls_as_the_agents_wire_does(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    files = ["-keyout", str(key), "-out", str(certificate), "-addext", "subjectAltName=DNS:localhost"]
    made = await asyncio.create_subprocess_exec("openssl", *words.split(), *files, stderr=subprocess.DEVNULL)
    assert await made.wait() == 0
    async with serving(echo, ssl_certfile=str(certificate), ssl_keyfile=str(key)) as url:
        secure = url.replace("http://127.0.0.1", "https://localhost")
        trusting = HttpWire(secure, "t", agent="test", ca_file=str(certificate))
        wire = await trusting.upgrade("/x", message_b=1000)
        await wire.send(b"hello")
        assert await wire.receive() == b"hello"
        await wire.close()
        with pytest.raises(UnavailableError, match="certificate"):
            await HttpWire(secure, "t", agent="test").upgrade("/x", message_b=1000)


async def test_nobody_there() -> None:
    with pytest.raises(UnavailableError, match=r"no answer from http://127\.0\.0\.1") as caught:
        await open_websocket(f"http://127.0.0.1:{free_port()}/x?token=secret", {})
    assert "secret" not in str(caught.value)


def test_masks_are_those_of_the_standard() -> None:
    mask = bytes((1, 2, 4, 8))
    for size in range(9):
        data = bytes(range(100, 100 + size))
        assert _masked(data, mask) == bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
