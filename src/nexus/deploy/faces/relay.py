"""From the server's own origin to the gateway: a page may talk to no other, and its session is its key there too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.responses import StreamingResponse

from nexus.infra.web.auth import SESSION_COOKIE
from nexus.infra.web.bodies import read_body
from nexus.kernel.errors import UnavailableError

_BODY_B = 16 * 1024 * 1024
_CONNECT_S = 5.0
_HEAD_S = 620.0  # a little more than the gateway's own patience with a replica
_PASSED_ON = frozenset({"content-type", "retry-after", "x-request-id", "x-nexus-replica", "x-nexus-revision"})


def token_of(request: Request) -> str:
    """The caller's key, as `infra.web.auth` has already checked it: a bearer token, or a session."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token else request.cookies.get(SESSION_COOKIE, "")


async def relay(request: Request, gateway: str) -> StreamingResponse:
    """The gateway's answer to this request, streamed as it comes. Raises UnavailableError, LimitError."""
    body = await read_body(request, _BODY_B)
    url = urlsplit(gateway)
    try:
        async with asyncio.timeout(_CONNECT_S):
            reader, writer = await asyncio.open_connection(url.hostname, url.port)
    except (OSError, TimeoutError) as problem:
        raise UnavailableError("the gateway does not answer", hint="Is it up? Start it: nexus up") from problem
    # HTTP/1.0: the answer comes as plain bytes until the connection ends, so there is nothing to parse but its head.
    head = (
        f"{request.method} {request.url.path} HTTP/1.0\r\nhost: {url.netloc}\r\n"
        f"authorization: Bearer {token_of(request)}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    try:
        writer.write(head.encode("latin-1") + body)
        async with asyncio.timeout(_HEAD_S):
            status, headers = _read_head(await reader.readuntil(b"\r\n\r\n"))
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as problem:
        writer.close()
        raise UnavailableError("the gateway ended before it answered", hint="Send it again.") from problem
    except BaseException:
        writer.close()  # the caller went away
        raise
    return StreamingResponse(_rest(reader, writer), status, headers)


def _read_head(raw: bytes) -> tuple[int, dict[str, str]]:
    start, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
    fields = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in fields}
    return int(start.split()[1]), {name: value for name, value in headers.items() if name in _PASSED_ON}


async def _rest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> AsyncIterator[bytes]:
    """The body. A connection that breaks raises, so that the caller's stream breaks too and is not taken for whole."""
    try:
        while chunk := await reader.read(65536):
            yield chunk
    finally:
        writer.close()
