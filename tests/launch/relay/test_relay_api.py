"""The routes of calls, with real tokens: errors come as HTTP's before a socket is accepted, and as messages after."""

from __future__ import annotations

import msgspec
import pytest
from starlette.testclient import WebSocketDenialResponse

from nexus.access.model import Purpose
from nexus.infra.web.auth import SESSION_COOKIE
from nexus.kernel.errors import ForbiddenError, NotFoundError
from nexus.kernel.identity import Role
from nexus.launch.calls import CallKind, CallRequest, Part, exit_message, message, opened, read_exit
from nexus.launch.faces import relay
from nexus.launch.model import Submission, TaskState
from tests.launch.api.conftest import Hand, Site, site
from tests.launch.build import plan

__all__ = ["site"]

EXEC = CallRequest(kind=CallKind.EXEC, argv=("true",))


@pytest.fixture
def relayed(site: Site) -> Site:
    app = site.web.app
    app.include_router(relay.router(site.launch.relay))  # type: ignore[attr-defined]
    return site


def running(site: Site) -> tuple[Hand, str]:
    agent = site.join()
    run = site.client().submit(Submission(name="x", plan=plan()))
    agent.say(agent.order(), TaskState.RUNNING)
    return agent, run.id


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_both_sides_over_sockets(relayed: Site) -> None:
    agent, run = running(relayed)
    client = relayed.client(Role.MEMBER)
    call = client.call(run, EXEC)
    (told,) = agent.sync().calls
    assert told.id == call.id
    with (
        relayed.web.websocket_connect(f"/v1/agent/calls/{call.id}", headers=bearer(agent.http.token)) as far,
        relayed.web.websocket_connect(f"/v1/calls/{call.id}", headers=bearer(client.http.token)) as near,
    ):
        assert far.receive_bytes() == message(Part.BEAT)
        assert near.receive_bytes() == message(Part.BEAT)
        near.send_bytes(message(Part.IN, b"hello"))
        assert far.receive_bytes() == message(Part.IN, b"hello")
        far.send_bytes(exit_message(3))
        part, data = opened(near.receive_bytes())
        assert (part, read_exit(data)) == (Part.EXIT, 3)
        far.close()
        assert near.receive()["type"] == "websocket.close"


def refused(site: Site, path: str, **headers: str) -> int:
    with pytest.raises(WebSocketDenialResponse) as caught, site.web.websocket_connect(path, headers=headers):
        pass
    error = msgspec.json.decode(caught.value.content)["error"]
    assert error["code"]
    assert error["hint"]
    return caught.value.status_code


def test_strangers_and_other_projects_are_refused_before_a_socket_is_accepted(relayed: Site) -> None:
    agent, run = running(relayed)
    mine = relayed.client(Role.MEMBER)
    call = mine.call(run, EXEC)
    near, far = f"/v1/calls/{call.id}", f"/v1/agent/calls/{call.id}"
    other = relayed.client(Role.ADMIN, project="other")
    assert refused(relayed, near) == 401
    assert refused(relayed, near, authorization="Bearer nxs_wrong") == 401
    assert refused(relayed, far) == 401
    assert refused(relayed, far, **bearer(mine.http.token)) == 403
    assert refused(relayed, near, **bearer(other.http.token)) == 404
    assert refused(relayed, near, **bearer(agent.http.token)) == 404
    assert refused(relayed, "/v1/calls/call_none", **bearer(mine.http.token)) == 404
    with pytest.raises(NotFoundError):
        other.call(run, EXEC)
    with pytest.raises(ForbiddenError):
        relayed.client(Role.VIEWER).call(run, EXEC)
    with pytest.raises(ForbiddenError):
        relayed.client(Role.MEMBER).call_node("a", EXEC)


def test_a_page_of_another_site_opens_no_socket_with_our_cookie(relayed: Site) -> None:
    _, run = running(relayed)
    client = relayed.client(Role.MEMBER)
    call = client.call(run, EXEC)
    session = relayed.call(
        relayed.access.create, purpose=Purpose.SESSION, subject="ada", project="p", role=Role.MEMBER
    ).secret
    cookie = f"{SESSION_COOKIE}={session}"
    path = f"/v1/calls/{call.id}"
    assert refused(relayed, path, cookie=cookie, origin="https://evil.example") == 403
    assert refused(relayed, path, cookie=cookie, **{"sec-fetch-site": "cross-site"}) == 403
    with relayed.web.websocket_connect(path, headers={"cookie": cookie, "origin": "http://testserver"}) as near:
        assert near.receive_bytes() == message(Part.BEAT)
