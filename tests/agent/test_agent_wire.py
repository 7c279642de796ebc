"""The agent's HTTP client against sockets that misbehave, and the machine's variables."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nexus.agent.adapters.http_channel import HttpChannel
from nexus.agent.adapters.http_wire import HttpWire
from nexus.agent.adapters.variables import machine_variables, uv_variables
from nexus.agent.model import LOG
from nexus.kernel.errors import FencedError, LimitError, NotFoundError, UnavailableError, UsageError

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
    return head + (await reader.readexactly(int(length)) if length else b"")


def _answer(status: int, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


@asynccontextmanager
async def channel_to(port: int) -> AsyncIterator[HttpChannel]:
    channel = HttpChannel(HttpWire(f"http://127.0.0.1:{port}", "t", agent="test"))
    try:
        yield channel
    finally:
        channel.close()


@pytest.mark.anyio
async def test_connections_are_kept_and_a_dead_one_is_replaced() -> None:
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for _ in range(2):  # then it closes, as servers do with idle connections
            await _request(reader)
            writer.write(_answer(200, b'{"offset": 1}'))

    async with listening(handler) as port, channel_to(port) as channel:
        for _ in range(6):
            assert await channel.ship("task_1", 1, LOG, 0, b"x") == 1
    assert connections == 3


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"", UnavailableError),
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", UnavailableError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", UnavailableError),
        (_answer(200, b"<html>"), UnavailableError),
        (_answer(502, b"<html>"), UnavailableError),
        (_answer(500), UnavailableError),
        (_answer(429), UnavailableError),
        (_answer(409, b'{"error": {"code": "fenced", "message": "m"}}'), FencedError),
        (_answer(413), LimitError),
        (_answer(404), NotFoundError),
    ],
)
async def test_every_answer_is_an_error_of_the_tree(said: bytes, error: type[Exception]) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _request(reader)
        writer.write(said)
        await writer.drain()

    async with listening(handler) as port, channel_to(port) as channel:
        with pytest.raises(error):
            await channel.ship("task_1", 1, LOG, 0, b"x")


@pytest.mark.anyio
async def test_a_server_that_never_answers_is_given_up() -> None:
    async def handler(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(handler) as port:
        wire = HttpWire(f"http://127.0.0.1:{port}", "t", agent="test")
        with pytest.raises(UnavailableError, match="no answer within"):
            async with wire.request("GET", "/", timeout_s=0.1):
                pass
        wire.close()


@pytest.mark.anyio
async def test_nobody_there_is_said_with_the_url() -> None:
    async with listening(lambda *_: asyncio.sleep(0)) as port:
        pass
    async with channel_to(port) as channel:
        with pytest.raises(UnavailableError, match=f"127.0.0.1:{port}"):
            await channel.has_blob("task_1", 1, "0" * 64)


@pytest.mark.anyio
async def test_tls_is_checked(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    subject = ["-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    made = await asyncio.create_subprocess_exec(
        "openssl",
        *words.split(),
        *files,
        *subject,
        stderr=subprocess.DEVNULL,
    )
    assert await made.wait() == 0
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _request(reader)
        writer.write(_answer(200))
        await writer.drain()

    async with listening(handler, tls) as port:
        trusting = HttpWire(f"https://localhost:{port}", "t", agent="test", ca_file=str(certificate))
        assert await HttpChannel(trusting).has_blob("task_1", 1, "0" * 64)
        trusting.close()
        wary = HttpWire(f"https://localhost:{port}", "t", agent="test")
        with pytest.raises(UnavailableError, match="certificate is not trusted"):
            await HttpChannel(wary).has_blob("task_1", 1, "0" * 64)


@pytest.mark.parametrize("url", ["server:7777", "ftp://server", "http://", ""])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        HttpWire(url, "t", agent="test")


def test_only_known_variables_pass() -> None:
    environ = {
        "HOME": "/h",
        "LC_ALL": "C",
        "NEXUS_TOKEN": "x",
        "GITHUB_TOKEN": "x",
        "PIP_CERT": "/c",
        "UV_PUBLISH_TOKEN": "x",
    }
    assert machine_variables(environ) == {"HOME": "/h", "LC_ALL": "C", "PIP_CERT": "/c"}


def test_pips_configuration_reaches_uv(tmp_path: Path) -> None:
    weak, strong = tmp_path / "weak.conf", tmp_path / "strong.conf"
    weak.write_text("[global]\nindex-url = https://weak/simple\nfind-links = /a\n  /b\nno-index = false\n")
    strong.write_text("[global]\nextra-index-url = file:///x/simple\n  file:///y/simple\n[install]\ntrusted-host = h\n")
    environ = {"PIP_INDEX_URL": "https://strong/simple", "PIP_CERT": "/ca.pem"}
    assert uv_variables(environ, [weak, strong, tmp_path / "absent.conf"]) == {
        "UV_DEFAULT_INDEX": "https://strong/simple",
        "UV_INDEX": "file:///x/simple file:///y/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/a,/b",
        "UV_INSECURE_HOST": "h",
        "SSL_CERT_FILE": "/ca.pem",
    }
    assert "UV_DEFAULT_INDEX" not in uv_variables(environ | {"UV_INDEX_URL": "https://own"}, [weak])
