"""From the chat page to the gateway: the page may only talk to its own server, so Studio passes its stream through."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import httpx
from fastapi import Response
from fastapi.responses import StreamingResponse

from nexus.kernel.errors import UnavailableError

_TIMEOUT = httpx.Timeout(600.0, connect=5.0)


class Relay:
    """One gateway. `url` is asked each time: a gateway's port is known only once it listens."""

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url

    async def post(self, path: str, body: bytes, token: str) -> Response:
        """The gateway's answer as it comes, asked with the reader's own session. Raises UnavailableError."""
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        http = httpx.AsyncClient(timeout=_TIMEOUT)  # one chat, one connection: nothing to close when the server stops
        request = http.build_request("POST", self._url().rstrip("/") + path, content=body, headers=headers)
        try:
            answer = await http.send(request, stream=True)
        except httpx.HTTPError as error:
            await http.aclose()
            raise UnavailableError("the gateway does not answer", hint="Is it up? nexus up starts it.") from error
        kind = answer.headers.get("content-type", "application/json")
        return StreamingResponse(_chunks(http, answer), answer.status_code, media_type=kind)


async def _chunks(http: httpx.AsyncClient, answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        with suppress(httpx.HTTPError):  # a replica that dies ends the stream; the page says what is missing
            async for chunk in answer.aiter_raw():
                yield chunk
    finally:
        await answer.aclose()
        await http.aclose()
