"""`HttpClient` for programs that already have an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx

from nexus.infra.http_client import Answer, arguments, decoded, headers_of, refusal
from nexus.infra.http_wire import URL_HINT, no_answer
from nexus.kernel.errors import UsageError

T = TypeVar("T")


class AsyncHttpClient:
    """One server, one token. Errors come back as the server's own classes of the tree."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        project: str = "",
        timeout_s: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`project`, where it is not the token's own. Raises UsageError for what is no URL."""
        self.url = url.rstrip("/")
        self.token = token
        self.project = project
        headers = headers_of(token, project)
        self._http = httpx.AsyncClient(
            base_url=_base(self.url), headers=headers, timeout=timeout_s, transport=transport
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def call(self, method: str, path: str, kind: type[T], /, *, body: Any = None, **params: Any) -> T:
        """Send `body` (dataclasses are fine) as JSON, and decode the answer as `kind`. Raises NexusError."""
        return decoded(await self.request(method, path, **arguments(body, params)), kind)

    async def get(self, path: str, kind: type[T], /, **params: Any) -> T:
        """`call("GET", ...)`."""
        return await self.call("GET", path, kind, **params)

    async def post(self, path: str, kind: type[T], /, body: Any = None, **params: Any) -> T:
        """`call("POST", ...)`."""
        return await self.call("POST", path, kind, body=body, **params)

    async def request(self, method: str, path: str, **arguments: Any) -> Answer:
        """A plain request; the answer is a success. `content` may be an iterator of bytes. Raises NexusError."""
        if isinstance(arguments.get("content"), Iterator):
            arguments["content"] = _pulled(arguments["content"])
        try:
            response = await self._http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise no_answer(self.url, str(error) or type(error).__name__) from error
        if response.is_error:
            raise refusal(_answer(response))
        return _answer(response)

    @asynccontextmanager
    async def stream(self, method: str, path: str, **arguments: Any) -> AsyncIterator[httpx.Response]:
        """A streamed answer. Raises NexusError."""
        try:
            async with self._http.stream(method, path, **arguments) as response:
                if response.is_error:
                    await response.aread()
                    raise refusal(_answer(response))
                yield response
        except httpx.HTTPError as error:
            raise no_answer(self.url, str(error) or type(error).__name__) from error


def _base(url: str) -> httpx.URL:
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"{url!r} is not the URL of a server", hint=URL_HINT)
    try:
        return httpx.URL(url)
    except httpx.InvalidURL as error:
        raise UsageError(f"{url!r} is not the URL of a server: {error}", hint=URL_HINT) from error


def _answer(response: httpx.Response) -> Answer:
    request, headers = response.request, dict(response.headers)
    return Answer(
        method=request.method,
        url=str(request.url),
        status=response.status_code,
        headers=headers,
        content=response.content,
    )


async def _pulled(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Read in a thread: a disk must not hold up the event loop."""
    while chunk := await asyncio.to_thread(next, chunks, b""):
        yield chunk
