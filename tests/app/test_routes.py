"""Routes as a whole: who may use which, and what the schema says. tests/security has every route under strangers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from nexus.access.model import Purpose
from nexus.app.server import ROUTERS, create_app
from nexus.app.settings import load_settings
from nexus.app.wire import Services, open_services
from nexus.infra.web.late import is_like
from nexus.kernel.identity import Principal, PrincipalKind, Role
from nexus.launch.model import RolePlan, Run, RunPlan, Submission
from tests.security.house import routes_of

pytestmark = pytest.mark.anyio


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    made = await open_services(load_settings({}, home=tmp_path))
    yield made
    for close in reversed(made.closing):
        close()


@pytest.fixture
def app(services: Services) -> FastAPI:
    return create_app(services)


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


@pytest.mark.parametrize("name", ROUTERS.names())
async def test_every_route_is_found_by_what_its_router_claims(name: str, services: Services) -> None:
    make = ROUTERS.get(name)
    paths = {path for _, path in routes_of(make(services).routes)}
    assert paths
    for path in paths:
        asked = re.sub(r"\{[^}]*\}", "x", path)
        assert any(is_like(asked, pattern) for pattern in make.paths), f"a request for {path} would not find it"  # type: ignore[attr-defined]


async def test_the_schema_describes_every_route_of_the_api(app: FastAPI) -> None:
    schema = await asyncio.to_thread(app.openapi)
    for path, methods in schema["paths"].items():
        for method, route in methods.items():
            assert route.get("summary"), f"{method} {path} says nothing"
