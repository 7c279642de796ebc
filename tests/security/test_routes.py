"""Every route of the application, whatever anybody adds: no stranger gets an answer, no tenant another's things."""

from __future__ import annotations

import re

import httpx
import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse

from nexus.kernel.identity import Principal, Role
from nexus.launch.model import RUNS
from tests.security.house import OPEN, WS, House, routes_of

pytestmark = pytest.mark.anyio
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
STRANGERS: tuple[dict[str, str], ...] = (
    {},
    {"authorization": "Bearer nx_u_wrong"},
    {"authorization": "Basic b3duZXI6b3duZXI="},
    {"authorization": "Bearer "},
    {"cookie": "nexus_session=nx_s_wrong"},
    {"authorization": "Bearer nx_r_run_1.default."},
    {"authorization": "Bearer nx_r_run_1.default.AAAA"},
)


def concrete(path: str, values: dict[str, str] | None = None) -> str:
    return re.sub(r"\{(\w+)[^}]*\}", lambda name: (values or {}).get(name[1], "x"), path)


def protected(house: House) -> list[str]:
    return sorted({path for method, path in routes_of(house.app.routes) if path not in OPEN and method != WS})


async def test_no_route_answers_a_stranger_by_any_method(house: House) -> None:
    """Also by those that a route does not know: what refuses them must not do anything first."""
    paths = protected(house)
    assert len(paths) > 80
    limits = house.app.state.limits
    async with house.client() as stranger:
        for path in paths:
            for method in METHODS:
                limits.denials.clear()
                answer = await stranger.request(method, concrete(path), content=b"{}")
                assert refused(answer), f"{method} {path}: {answer.status_code}"


async def test_no_route_answers_a_token_that_is_none(house: House) -> None:
    limits = house.app.state.limits
    async with house.client() as stranger:
        for method, path in routes_of(house.app.routes):
            if path in OPEN or method == WS:
                continue
            for headers in STRANGERS:
                limits.denials.clear()
                limits.logins.clear()
                answer = await stranger.request(method, concrete(path), headers=headers, content=b"{}")
                assert refused(answer), f"{method} {path} {headers}: {answer.status_code}"


def refused(answer: httpx.Response) -> bool:
    to_login = answer.status_code == 303 and answer.headers["location"].startswith("/login")
    return answer.status_code in {401, 405} or to_login


async def test_no_websocket_opens_for_a_stranger(house: House) -> None:
    paths = [path for method, path in routes_of(house.app.routes) if method == WS]
    client = TestClient(house.app)
    for path in paths:
        for headers in STRANGERS:
            with pytest.raises(WebSocketDenialResponse) as caught:
                client.websocket_connect(concrete(path), headers=headers).__enter__()
            assert caught.value.status_code == 401


def test_the_open_routes_are_these_and_no_others() -> None:
    assert {
        "/healthz",
        "/openapi.json",
        "/v1/login",
        "/v1/agent/join",
        "/login",
        "/login/{code}",
        "/static/{version}/{name:path}",
    } == OPEN


async def test_join_and_login_take_what_they_take_and_nothing_else(house: House) -> None:
    _, token = await house.owner()
    async with house.client(token) as client:
        info = {"name": "n", "boot": "1", "capacity": {"cpu": 1, "memory_b": 1, "disk_b": 1}}
        joined = await client.post("/v1/agent/join", json={"info": info})
        assert joined.status_code == 401, "an owner's token is no join token"
        assert (await client.post("/v1/login", json={"user": "owner", "password": ""})).status_code == 401
        assert (await client.get(f"/login/{token}x")).status_code == 401


async def test_another_tenants_things_do_not_exist(house: House) -> None:
    """Every route with an id, with the ids of another's project: as with ids that were never given."""
    ours, theirs = await house.tenant("ada", "ours"), await house.tenant("eve", "theirs")
    canaries = ("run-of-ada", "node-of-ada", "model-of-ada", "SECRET_OF_ADA", "value-of-ada", "blob of ada")
    seen = 0
    async with house.client(theirs.token) as eve:
        for method, path in routes_of(house.app.routes):
            wanted = [name for name in re.findall(r"\{(\w+)", path) if name in ours.ids]
            if not wanted or method == WS or path in OPEN or path.startswith(("/store", "/v1/templates", "/projects")):
                continue
            body = {"count": 1, "role": "main", "version": 1, "digest": ours.ids["digest"], "name": "x"}
            answer = await eve.request(method, concrete(path, ours.ids), json=body)
            nothing = await eve.request(method, concrete(path, dict.fromkeys(ours.ids, never(path))), json=body)
            if path in WRITES_ANEW:
                continue
            seen += 1
            assert answer.status_code == nothing.status_code, (method, path, answer.status_code, nothing.status_code)
            assert answer.status_code >= 400, (method, path, answer.text[:300])
            for canary in canaries:  # what was asked for may be said again
                assert canary in concrete(path, ours.ids) or canary not in answer.text, (method, path)
    assert seen > 40
    again = await house.services.records.get(RUNS, ours.run.id)
    assert again is not None
    assert (again.wanted, again.state) == (ours.run.wanted, ours.run.state), "nothing was done to it either"


# A name that is only free in one's own project: it makes something there, and says nothing of the other's.
WRITES_ANEW = {"/v1/secrets/{name}", "/v1/models/{name}/versions"}


def never(path: str) -> str:
    """An id that was never given, of the same shape."""
    return "0" * 64 if "digest" in path else "run_0000000000000" if "run" in path else "never-given"


async def test_lists_show_ones_own_project_only(house: House) -> None:
    await house.tenant("ada", "ours")
    eve = await house.tenant("eve", "theirs")
    async with house.client(eve.token) as client:
        for method, path in routes_of(house.app.routes):
            if method != "GET" or "{" in path or path in OPEN:
                continue
            answer = await client.get(path)
            assert "of-ada" not in answer.text, path
            assert "SECRET_OF_ADA" not in answer.text, path
            assert "value-of-" not in answer.text, path


async def test_another_project_is_not_entered_by_naming_it(house: House) -> None:
    ours, eve = await house.tenant("ada", "ours"), await house.tenant("eve", "theirs")
    async with house.client(eve.token) as client:
        for headers in ({"nexus-project": "ours"}, {"nexus-project": "nothing"}, {"nexus-project": "../ours"}):
            answer = await client.get(f"/v1/runs/{ours.run.id}", headers=headers)
            assert answer.status_code == 404
    headers = {"cookie": f"nexus_session={eve.token}; nexus_project=ours"}
    async with house.client() as browser:
        assert (await browser.get("/v1/me", headers=headers)).json()["project"] == "theirs"


@pytest.mark.parametrize("role", [Role.VIEWER, Role.MEMBER])
async def test_who_may_less_changes_less(house: House, role: Role) -> None:
    """No route that changes something beyond one's role does it; the list is the application's own."""
    vic = await house.tenant("vic", "ours", role)
    who: Principal | None = await house.services.access.authenticate(vic.token)
    assert who is not None
    refused_here = [
        ("POST", "/v1/users"),
        ("DELETE", "/v1/users/owner"),
        ("PUT", "/v1/users/owner/password"),
        ("PUT", "/v1/members/vic"),
        ("DELETE", "/v1/members/vic"),
        ("POST", "/v1/projects"),
        ("DELETE", "/v1/projects/ours"),
        ("POST", "/v1/secrets/rotate"),
        ("GET", "/v1/audit"),
        ("GET", "/v1/audit/verify"),
        ("GET", "/v1/users"),
    ]
    if role is Role.VIEWER:
        refused_here += [
            ("POST", f"/v1/runs/{vic.run.id}/stop"),
            ("POST", f"/v1/runs/{vic.run.id}/restart"),
            ("GET", "/v1/secrets"),
            ("PUT", "/v1/secrets/A_NAME"),
            ("POST", "/v1/join-tokens"),
            ("PUT", f"/v1/blobs/{'0' * 64}"),
            ("DELETE", f"/v1/nodes/{vic.ids['node']}"),
        ]
    body = {"name": "x", "role": "admin", "password": "p" * 20, "value": "v", "owner": True}
    async with house.client(vic.token) as client:
        for method, path in refused_here:
            answer = await client.request(method, path, json=body)
            assert answer.status_code == 403, (method, path, answer.status_code, answer.text[:200])
        made = await client.post("/v1/tokens", json={"name": "x", "role": "admin"})
        assert made.status_code == 403
