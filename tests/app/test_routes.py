"""Every route asks who calls. The list comes from the application itself, so that a new route cannot be forgotten."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Mount, Route

from nexus.access.model import Purpose
from nexus.app.server import ROUTERS, create_app
from nexus.app.settings import load_settings
from nexus.app.wire import Services, open_services
from nexus.kernel.identity import Principal, PrincipalKind, Role
from nexus.launch.model import RolePlan, Run, RunPlan, Submission

pytestmark = pytest.mark.anyio

OPEN_ROUTES = {"/healthz", "/openapi.json"}
# Static files, and the door itself: a join token and a login code are what these routes take.
OPEN_PATHS = re.compile(r"/static/.*|/login(/.*)?|/logout|/v1/agent/join|/favicon\.ico")


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    made = await open_services(load_settings({}, home=tmp_path))
    yield made
    for close in reversed(made.closing):
        close()


@pytest.fixture
def app(services: Services) -> FastAPI:
    return create_app(services)


def walk(routes: object, prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for route in routes:  # type: ignore[attr-defined]
        if isinstance(route, APIRoute | Route):
            found += [(method, prefix + route.path) for method in sorted(route.methods or {"GET"})]
        elif isinstance(route, Mount):
            found += walk(route.routes, prefix + route.path)
        else:
            # FastAPI keeps an included router whole; its routes carry their own prefix already.
            found += walk(route.original_router.routes, prefix)
    return found


def concrete(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "x", path)


async def submitted(services: Services, project: str) -> Run:
    owner = Principal(PrincipalKind.USER, "ada", project, Role.ADMIN)
    plan = RunPlan(kind="command", roles=(RolePlan(name="main", argv=("true",)),))
    return await services.launch.submit(owner, Submission(name="secret", plan=plan))


async def test_a_runs_token_ends_with_it(app: FastAPI, services: Services) -> None:
    run = await submitted(services, "default")
    headers = {"authorization": f"Bearer {services.access.run_token(run.id, 'default')}"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", headers=headers) as client:
        assert (await client.get("/v1/runs")).status_code == 200
        assert (await client.post(f"/v1/runs/{run.id}/stop")).status_code == 200
        await services.launch.schedule_once()
        services.access._cache = {}  # as after its two seconds
        assert (await client.get("/v1/runs")).status_code == 401


async def test_no_route_answers_a_stranger(app: FastAPI) -> None:
    routes = walk(app.routes)
    assert len(routes) > 60
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as stranger:
        for method, path in routes:
            if path in OPEN_ROUTES or OPEN_PATHS.fullmatch(path):
                continue
            for headers in ({}, {"authorization": "Bearer nx_u_wrong"}, {"cookie": "nexus_session=nx_s_wrong"}):
                answer = await stranger.request(method, concrete(path), headers=headers, content=b"{}")
                to_login = answer.status_code in {302, 303, 307} and answer.headers["location"].startswith("/login")
                assert answer.status_code in {401, 405} or to_login, f"{method} {path}: {answer.status_code}"


async def test_a_node_and_a_run_may_not_do_what_people_do(app: FastAPI, services: Services) -> None:
    node = await services.access.node_token("node_x", "default")
    run = services.access.run_token((await submitted(services, "default")).id, "default")
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for token in (node, run):
            for method, path in [
                ("POST", "/v1/tokens"),
                ("POST", "/v1/runs"),
                ("GET", "/v1/tokens"),
                ("POST", "/v1/join-tokens"),
                ("POST", "/v1/login-codes"),
            ]:
                answer = await client.request(
                    method, path, headers={"authorization": f"Bearer {token}"}, json={"name": "x"}
                )
                assert answer.status_code in {403, 400, 422}, (method, path, answer.text)
                assert answer.status_code == 403 or "secret" not in answer.text


async def test_another_projects_things_do_not_exist(app: FastAPI, services: Services) -> None:
    """Two projects, every GET of one with the ids of the other: 404, not 403, and nothing shown."""
    run = await submitted(services, "ours")
    eve = await services.access.create(purpose=Purpose.USER, subject="eve", project="theirs", role=Role.ADMIN)
    transport = httpx.ASGITransport(app)
    headers = {"authorization": f"Bearer {eve.secret}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
        for method, path in walk(app.routes):
            if "{run" not in path or method not in {"GET", "POST", "DELETE", "PUT"}:
                continue
            answer = await client.request(
                method,
                re.sub(r"\{run[^}]*\}", run.id, re.sub(r"\{(?!run)[^}]*\}", "x", path)),
                json={"count": 1, "role": "main"},
            )
            assert answer.status_code in {404, 400, 422}, (method, path, answer.status_code, answer.text[:200])
            assert "secret" not in answer.text
        assert run.id not in (await client.get("/v1/runs")).text


async def test_a_page_of_another_site_cannot_use_the_cookie(app: FastAPI, services: Services) -> None:
    made = await services.access.create(purpose=Purpose.SESSION, subject="ada", project="default", role=Role.ADMIN)
    transport = httpx.ASGITransport(app)
    cookies = {"nexus_session": made.secret}
    async with httpx.AsyncClient(transport=transport, base_url="http://test", cookies=cookies) as client:
        for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
            answer = await client.post("/v1/login-codes", headers=headers)
            assert answer.status_code == 403, answer.text
        assert (await client.post("/v1/login-codes", headers={"origin": "http://test"})).status_code == 201


@pytest.mark.parametrize("name", ROUTERS.names())
def test_every_router_of_the_table_is_there(name: str) -> None:
    assert callable(ROUTERS.get(name))


async def test_the_schema_describes_every_route_of_the_api(app: FastAPI) -> None:
    schema = await asyncio.to_thread(app.openapi)
    for path, methods in schema["paths"].items():
        for method, route in methods.items():
            assert route.get("summary"), f"{method} {path} says nothing"
