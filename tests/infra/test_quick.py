"""The quick way to the agents' routes answers as the ordinary one does, and lets nobody else through."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import pytest

from nexus.infra.web.quick import Quick, QuickRoute
from nexus.kernel.errors import FencedError, NotFoundError
from nexus.kernel.identity import Principal, PrincipalKind, Role

NODE = Principal(PrincipalKind.NODE, "node_1", "p", Role.VIEWER)
ADA = Principal(PrincipalKind.USER, "ada", "p", Role.ADMIN)


@dataclass(frozen=True)
class Where:
    since: int = 0
    wait: Annotated[float, msgspec.Meta(ge=0)] = 0.0


async def answer(principal: Principal, query: Where, body: bytes) -> bytes:
    if body == b"fenced":
        raise FencedError("too late", hint="Stop.")
    if body == b"bug":
        raise ZeroDivisionError
    return b"%s %d %g %s" % (principal.subject.encode(), query.since, query.wait, body)


async def authenticate(token: str, *_: str) -> Principal | None:
    if token == "elsewhere":
        raise NotFoundError("no such project")
    return {"node": NODE, "ada": ADA}.get(token)


async def ordinary(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": b"ordinary"})


def call(token: str, *pieces: bytes, path: str = "/sync", query: str = "", method: str = "POST") -> tuple[int, bytes]:
    app = Quick(ordinary, authenticate, {"/sync": QuickRoute(Where, answer)})
    headers = [(b"authorization", f"Bearer {token}".encode())] if token else []
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": headers}
    waiting = [{"body": piece, "more_body": at + 1 < len(pieces)} for at, piece in enumerate(pieces)]
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", **waiting.pop(0)}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], sent[1]["body"]


def test_a_node_is_answered_at_once() -> None:
    assert call("node", b"he", b"llo", query="since=7&wait=2.5") == (200, b"node_1 7 2.5 hello")
    assert call("node", b"x") == (200, b"node_1 0 0 x")


@pytest.mark.parametrize("token", ["", "ada", "stranger", "elsewhere"])
def test_everybody_else_goes_the_ordinary_way(token: str) -> None:
    assert call(token, b"x") == (299, b"ordinary")


def test_what_is_unusual_goes_the_ordinary_way() -> None:
    assert call("node", b"x", query="since=many") == (299, b"ordinary")
    assert call("node", b"x", query="wait=-1") == (299, b"ordinary")
    assert call("node", b"x", path="/other") == (299, b"ordinary")
    assert call("node", b"x", method="GET") == (299, b"ordinary")


def test_errors_are_those_of_the_tree() -> None:
    status, body = call("node", b"fenced")
    assert status == 409
    assert msgspec.json.decode(body)["error"] == {
        "code": "fenced",
        "message": "too late",
        "hint": "Stop.",
        "details": {},
    }
    status, body = call("node", b"bug")
    assert status == 500
    assert b"ZeroDivision" not in body
    status, _ = call("node", *[b"x" * 1_000_000] * 6)
    assert status == 413
