"""A whole server's application in this process, its routes as they are, and two tenants."""

from __future__ import annotations

import atexit
import hashlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Mount, Route, WebSocketRoute

from nexus.access.model import OWNER
from nexus.access.service.tokens import SYSTEM
from nexus.app.database import open_records
from nexus.app.serve import own_names
from nexus.app.server import create_app
from nexus.app.settings import Settings, load_settings
from nexus.app.wire import Services, open_services
from nexus.infra.web.door import Door, is_own_name
from nexus.kernel.identity import Principal, Role
from nexus.launch.model import Capacity, RolePlan, Run, RunPlan, Submission
from nexus.launch.protocol import NodeInfo

WS = "WEBSOCKET"
OPEN = {
    *("/healthz", "/openapi.json", "/static/{version}/{name:path}"),
    *("/v1/login", "/v1/agent/join", "/login", "/login/{code}"),
}


@dataclass
class Tenant:
    """A user with a project of their own, and one thing of each kind in it."""

    name: str
    project: str
    token: str
    run: Run
    ids: dict[str, str]  # what may stand in the place of a route's parameter

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}


@dataclass
class House:
    """The application, with and without its door."""

    services: Services
    app: FastAPI
    door: Door

    def client(self, token: str = "", *, door: bool = False, host: str = "127.0.0.1:7717") -> httpx.AsyncClient:
        """Somebody who calls. Through the door, as over the network, or right in front of the routes."""
        transport = httpx.ASGITransport(self.door if door else self.app)
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.AsyncClient(transport=transport, base_url=f"http://{host}", headers=headers)

    async def owner(self) -> tuple[Principal, str]:
        """The server's owner, and their token."""
        await self.services.people.found()
        token = (await self.services.people.login_token(OWNER, "default", by=SYSTEM)).secret
        found = await self.services.access.authenticate(token)
        assert found is not None
        return found, token

    async def tenant(self, name: str, project: str, role: Role = Role.ADMIN) -> Tenant:
        """A project, somebody in it who is no owner, and what they have there."""
        owner, token = await self.owner()
        await self.services.people.create_project(owner, project)
        inside = await self.services.access.authenticate(token, project)
        assert inside is not None
        await self.services.people.add_user(inside, name, role)
        secret = (await self.services.people.login_token(name, project, by=SYSTEM)).secret
        services = self.services
        run = await submitted(services, inside, f"run-of-{name}")
        node = await services.launch.join(info(f"node-of-{name}"), project)
        await services.secrets.set(inside, f"SECRET_OF_{name.upper()}", f"value-of-{name}")
        content = f"blob of {name}".encode()
        digest = hashlib.sha256(content).hexdigest()
        await services.track.uploads.put(inside, digest, _chunks(content))
        model = await services.track.models.register(inside, f"model-of-{name}", digest)
        token_id = (await services.access.create_for(inside, "ci", Role.MEMBER, None)).token.id
        ids = {
            **dict.fromkeys(("run", "run_id"), run.id),
            "node": node.id,
            "digest": digest,
            "name": model.name if hasattr(model, "name") else f"model-of-{name}",
            "token_id": token_id,
            "project": project,
        }
        return Tenant(name, project, secret, run, ids)


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    yield content


def info(name: str) -> NodeInfo:
    return NodeInfo(name=name, boot="1", capacity=Capacity(cpu=4, memory_b=8_000_000_000, disk_b=10**11))


async def submitted(services: Services, who: Principal, name: str) -> Run:
    plan = RunPlan(kind="command", roles=(RolePlan(name="main", argv=("true",)),))
    return await services.launch.submit(who, Submission(name=name, plan=plan))


@cache
def _fresh_database() -> Path:
    """A database at the newest schema: to migrate one takes a second, to copy it a millisecond."""
    file = Path(tempfile.mkdtemp(prefix="nexus-security-")) / "nexus.db"
    atexit.register(shutil.rmtree, file.parent, ignore_errors=True)
    open_records(f"sqlite:///{file}").close()
    return file


@asynccontextmanager
async def open_house(folder: Path, **more: object) -> AsyncIterator[House]:
    """Everything, until it is left."""
    settings: Settings = load_settings({}, home=folder, **more)
    shutil.copy(_fresh_database(), folder / "nexus.db")
    services = await open_services(settings)
    app = create_app(services)
    yield House(services, app, Door(app, is_own_name(own_names(settings)), services.clock.monotonic))
    for close in reversed(services.closing):
        close()


def routes_of(routes: object) -> list[tuple[str, str]]:
    """(method, path) of every route that there is; a WebSocket's method is `WS`."""
    found: list[tuple[str, str]] = []
    for route in routes:  # type: ignore[attr-defined]
        if isinstance(route, APIRoute | Route):
            found += [(method, route.path) for method in sorted(route.methods or {"GET"})]
        elif isinstance(route, WebSocketRoute):
            found.append((WS, route.path))
        elif isinstance(route, Mount):
            found += routes_of(route.routes)
        else:  # FastAPI keeps an included router whole; its routes carry their own prefix already
            found += routes_of(route.original_router.routes)
    return found
