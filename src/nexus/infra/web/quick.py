"""The routes that every agent calls all the time, without what a framework and the door cost for each request.

Only what is as usual goes this way: a node's own token, values that can be read. Everything else (a stranger, a page's
cookie, a bad value) is left to the ordinary route of the same path, which answers it with the same function.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from nexus.infra.web.auth import Authenticate
from nexus.kernel.errors import LimitError, NexusError
from nexus.kernel.identity import Principal, PrincipalKind

log = structlog.get_logger()
_BODY_B = 4_000_000


@dataclass(frozen=True, slots=True)
class QuickRoute:
    """A POST of JSON: `answer` is given whose it is, the query as `query`, and the body; it gives JSON."""

    query: type[Any]
    answer: Callable[[Principal, Any, bytes], Awaitable[bytes]]


class Quick:
    """An ASGI application in front of another."""

    def __init__(self, app: ASGIApp, authenticate: Authenticate, routes: Mapping[str, QuickRoute]) -> None:
        self._app = app
        self._authenticate = authenticate
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        query = _query(scope, route) if route is not None else None
        principal = await self._node(scope) if query is not None else None
        if route is None or principal is None:
            await self._app(scope, receive, send)
            return
        status, content = await _answer(route, principal, query, receive)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _node(self, scope: Scope) -> Principal | None:
        for name, value in scope["headers"]:
            if name == b"authorization" and value[:7].lower() == b"bearer ":
                try:
                    found = await self._authenticate(value[7:].strip().decode("latin-1"))
                except NexusError:
                    return None
                return found if found is not None and found.kind is PrincipalKind.NODE else None
        return None


def _query(scope: Scope, route: QuickRoute) -> Any:
    try:
        values = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        return msgspec.convert(values, route.query, strict=False)
    except msgspec.ValidationError:
        return None


async def _answer(route: QuickRoute, principal: Principal, query: Any, receive: Receive) -> tuple[int, bytes]:
    try:
        return 200, await route.answer(principal, query, await _body(receive))
    except NexusError as error:
        return error.status, msgspec.json.encode(error.as_dict())
    except Exception as error:
        log.exception("server.bug", error=str(error))
        ours = NexusError("the server failed", hint="This is a bug in Nexus; the server's log has the trace.")
        return ours.status, msgspec.json.encode(ours.as_dict())


async def _body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
        if len(body) > _BODY_B:
            raise LimitError(f"the body is larger than {_BODY_B} bytes")
    return body
