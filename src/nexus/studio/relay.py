"""From the chat page to the gateway: the page may only talk to its own server, so Studio passes its stream through."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress

import httpx
from fastapi import Response
from fastapi.responses import StreamingResponse

from nexus.kernel.errors import UnavailableError

_TIMEOUT = httpx.Timeout(600.0, connect=5.0)


class Relay:
    """One gateway, with connections that are kept."""

    def __init__(self, gateway: str) -> None:
        self._http = httpx.AsyncClient(base_url=gateway.rstrip("/"), timeout=_TIMEOUT)

    async def close(self) -> None:
        """Give back the connections."""
        await self._http.aclose()

    async def post(self, path: str, body: bytes, token: str) -> Response:
        """The gateway's answer as it comes, asked with the reader's own session. Raises UnavailableError."""
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        request = self._http.build_request("POST", path, content=body, headers=headers)
        try:
            answer = await self._http.send(request, stream=True)
        except httpx.HTTPError as error:
            raise UnavailableError("the gateway does not answer", hint="Is it up? nexus up starts it.") from error
        kind = answer.headers.get("content-type", "application/json")
        return StreamingResponse(_chunks(answer), answer.status_code, media_type=kind)


async def _chunks(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        with suppress(httpx.HTTPError):  # a replica that dies ends the stream; the page says what is missing
            async for chunk in answer.aiter_raw():
                yield chunk
    finally:
        await answer.aclose()
