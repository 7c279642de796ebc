"""Routers that are made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from fastapi import APIRouter

from nexus.infra.web.late import LateApp, is_like


@pytest.mark.parametrize(
    ("path", "pattern", "is_meant"),
    [
        ("/v1/runs", "/v1/runs", True),
        ("/v1/runs/a", "/v1/runs", False),
        ("/v1/runs", "/v1/runs/**", True),
        ("/v1/runs/a/logs/b", "/v1/runs/**", True),
        ("/v1/runs2", "/v1/runs/**", False),
        ("/v1/runs/a/logs", "/v1/runs/*/logs", True),
        ("/v1/runs/logs", "/v1/runs/*/logs", False),
        ("/v1/runs/a/b/logs", "/v1/runs/*/logs", False),
        ("/", "/", True),
        ("/a", "/", False),
        ("/", "/**", True),
        ("/a/b", "/**", True),
    ],
)
def test_a_pattern_means_these_paths(path: str, pattern: str, is_meant: bool) -> None:
    assert is_like(path, pattern) is is_meant


class Counted:
    """An application of two routers, and which of them were made."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.app = LateApp()
        for name in ("cats", "dogs"):
            self.app.include_late(self._maker(name), (f"/{name}/**",))

    def _maker(self, name: str) -> Callable[[], APIRouter]:
        def make() -> APIRouter:
            self.made.append(name)
            router = APIRouter()

            @router.get(f"/{name}/{{one}}")
            async def get(one: str) -> str:
                return f"{name}: {one}"

            return router

        return make

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://test") as client:
            return await client.get(path)


@pytest.mark.anyio
async def test_what_is_asked_for_is_made_once_and_nothing_else() -> None:
    house = Counted()
    assert (await house.get("/cats/tom")).json() == "cats: tom"
    assert (await house.get("/cats/tim")).json() == "cats: tim"
    assert house.made == ["cats"]


@pytest.mark.anyio
async def test_what_nobody_claims_is_looked_for_everywhere() -> None:
    house = Counted()
    assert (await house.get("/mice")).status_code == 404
    assert house.made == ["cats", "dogs"]


@pytest.mark.parametrize("look", [lambda app: app.routes, lambda app: app.openapi()["paths"]], ids=["routes", "schema"])
def test_whoever_lists_the_routes_sees_all(look: Callable[[LateApp], list[object]]) -> None:
    house = Counted()
    assert len(look(house.app)) >= 2
    assert house.made == ["cats", "dogs"]
