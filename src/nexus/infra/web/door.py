"""The door in front of every route: what is refused before anybody asks who calls.

- Names that are not this server's own: a page elsewhere that has pointed its name at this address (DNS rebinding).
  Addresses are no names, and pass.
- Bodies that are too large or do not come; `infra.web.patience` does the same for heads.
- Answers leave with headers that keep a browser from taking them for anything but what they are, and a stream of
  events or a WebSocket ends when whoever has it open may not any more.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterable

from fastapi.requests import HTTPConnection
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nexus.infra.web.auth import caller
from nexus.kernel.errors import LimitError, MisdirectedError, NexusError

JSON_B = 8_000_000  # read whole before the caller is known; other bodies are read by their route, with its own bound
OTHER_B = 64_000_000
_STALL_S = 30.0  # between two pieces of a body
_JSON_S = 60.0  # for all of one
_STREAMED = ("PUT", "/v1/blobs/")  # of any size; who uploads is known before the first byte is read
_RECHECK_S = 2.0  # how long a stream may go on after its reader's token was revoked
_POLICY = 1008  # of a WebSocket's end: not allowed
_SAFE_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


def is_own_name(names: Iterable[str]) -> Callable[[str], bool]:
    """Whether a Host header names this server: an address, `localhost`, or one of `names`."""
    own = {"localhost", *(name.strip().lower().rstrip(".") for name in names if name.strip())}

    def check(host: str) -> bool:
        name = _without_port(host).lower().rstrip(".")
        return name in own or is_address(name)

    return check


def is_address(name: str) -> bool:
    """Whether it is an IP address, which no name server can point elsewhere."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _without_port(host: str) -> str:
    if host.startswith("["):
        name, _, rest = host[1:].partition("]")
        return name if not rest or rest.startswith(":") else host
    return host.rpartition(":")[0] if host.count(":") == 1 else host


class Door:
    """An ASGI application around another. `monotonic` is its clock."""

    def __init__(self, app: ASGIApp, is_own: Callable[[str], bool], monotonic: Callable[[], float]) -> None:
        self._app = app
        self._is_own = is_own
        self._monotonic = monotonic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        refusal = self._refusal(scope, headers)
        if refusal is None:
            visit = _Visit(scope, headers, receive, send, self._monotonic)
            await self._app(scope, visit.receive, visit.send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _POLICY})
        else:
            answer = JSONResponse(refusal.as_dict(), refusal.status, {**_SAFE_HEADERS, "connection": "close"})
            await answer(scope, receive, send)

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> NexusError | None:
        host = headers.get(b"host", b"").decode("latin-1")
        if not self._is_own(host):
            return MisdirectedError(
                f"this server is not called {_without_port(host)[:100]!r}",
                hint="If it is, tell it so on its machine: NEXUS_HOSTS=NAME, or `hosts` in config.toml.",
            )
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > _bound(scope, headers):
            return LimitError(f"the body is larger than {_bound(scope, headers)} bytes")
        return None


def _bound(scope: Scope, headers: dict[bytes, bytes]) -> int | float:
    if scope.get("method") == _STREAMED[0] and scope["path"].startswith(_STREAMED[1]):
        return float("inf")
    return JSON_B if _is_json(headers) else OTHER_B


def _is_json(headers: dict[bytes, bytes]) -> bool:
    return headers.get(b"content-type", b"application/json").lstrip().lower().startswith(b"application/json")


class _Visit:
    """One request: what is left of its bounds."""

    def __init__(
        self,
        scope: Scope,
        headers: dict[bytes, bytes],
        receive: Receive,
        send: Send,
        monotonic: Callable[[], float],
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._monotonic = monotonic
        self._left = _bound(scope, headers)
        self._until = monotonic() + _JSON_S if _is_json(headers) else float("inf")
        self._is_reading = scope["type"] == "http" and (b"content-length" in headers or b"transfer-encoding" in headers)
        self._is_stream = False
        self._proven = 0.0
        self._over = asyncio.Event()

    async def receive(self) -> Message:
        """The next piece. Raises HTTPException when there are too many, or none comes."""
        if self._scope["type"] == "websocket":
            message = await self._receive()
            if message["type"] == "websocket.receive" and not await self._may_still_read():
                await self.send({"type": "websocket.send"})
                return {"type": "websocket.disconnect", "code": _POLICY}
            return message
        if not self._is_reading:
            return await self._wait() if self._is_stream else await self._receive()
        patience_s = min(_STALL_S, max(0.0, self._until - self._monotonic()))
        try:
            async with asyncio.timeout(patience_s):
                message = await self._receive()
        except TimeoutError as error:
            raise HTTPException(408, "the body did not come in time") from error
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise HTTPException(413, "the body is too large")
        self._is_reading = bool(message.get("more_body"))
        return message

    async def _wait(self) -> Message:
        """Until the reader leaves, or is asked to."""
        leaving, ending = asyncio.ensure_future(self._receive()), asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait((leaving, ending), return_when=asyncio.FIRST_COMPLETED)
            return leaving.result() if leaving.done() else {"type": "http.disconnect"}
        finally:
            leaving.cancel()
            ending.cancel()

    async def send(self, message: Message) -> None:
        """Let an answer out."""
        if self._over.is_set():
            return
        if message["type"] == "http.response.start":
            self._begin(message)
        elif self._is_stream and message["type"] == "http.response.body" and not await self._may_still_read():
            message = {"type": "http.response.body", "body": b""}
            self._over.set()
        elif message["type"] == "websocket.accept":
            self._proven = self._monotonic()
        elif message["type"] == "websocket.send" and not await self._may_still_read():
            message = {"type": "websocket.close", "code": _POLICY}
            self._over.set()
        await self._send(message)

    def _begin(self, message: Message) -> None:
        headers = MutableHeaders(raw=message["headers"])
        for name, value in _SAFE_HEADERS.items():
            headers.setdefault(name, value)
        if self._is_reading:  # whoever did not send their body by now does not get to send more
            headers["connection"] = "close"
        self._is_stream = headers.get("content-type", "").startswith("text/event-stream")
        self._proven = self._monotonic()

    async def _may_still_read(self) -> bool:
        if self._monotonic() - self._proven < _RECHECK_S:
            return True
        try:
            await caller(HTTPConnection(self._scope))
        except NexusError:
            return False
        self._proven = self._monotonic()
        return True
