"""The routes in a real application, with real tokens, and their typed client in front."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from nexus.access.model import Purpose
from nexus.access.service import Access
from nexus.app.bridges import RunsByRecords
from nexus.infra.clock import SystemClock, system_entropy
from nexus.infra.hints import Hints
from nexus.infra.http_client import HttpClient
from nexus.infra.http_wire import Request, Stream
from nexus.infra.records.memory import MemoryRecords
from nexus.infra.web.errors import answer_errors
from nexus.kernel.identity import Principal, PrincipalKind, Role
from nexus.launch.faces import agent_api, api, fleets_api
from nexus.launch.faces.client import LaunchClient
from nexus.launch.model import Run, TaskState
from nexus.launch.ports import Machinery
from nexus.launch.protocol import Desired, Join, Joined, Report, TaskOrder, TaskReport
from nexus.launch.service import Launch
from tests.launch.build import info
from tests.launch.providers.fake import Cloud, FakeProvider, Tokens, offer


class Tracker:
    """Whose logs are whole at once."""

    async def log_end(self, task_id: str) -> int:
        return 0

    async def resolve(self, project: str, reference: str) -> str:
        return "0" * 64


class Whole:
    """An answer that is all there."""

    def __init__(self, answer: Any) -> None:
        self.status, self._answer = answer.status_code, answer
        self.headers: Mapping[str, str] = dict(answer.headers)

    def read(self) -> bytes:
        return bytes(self._answer.content)

    def iter_bytes(self, chunk_b: int = 65536) -> Iterator[bytes]:
        yield from self._answer.iter_bytes(chunk_b)

    def iter_lines(self) -> Iterator[str]:
        yield from self._answer.iter_lines()


class Bridge:
    """From our client to the application in this process."""

    def __init__(self, web: TestClient) -> None:
        self._web = web

    @contextmanager
    def exchange(self, request: Request) -> Iterator[Stream]:
        content = request.body if isinstance(request.body, bytes) else b"".join(request.body)
        headers = dict(request.headers)
        yield Whole(self._web.request(request.method, request.target, content=content, headers=headers))

    def close(self) -> None:
        pass


@dataclass
class Site:
    """A served Launch."""

    launch: Launch
    access: Access
    web: TestClient
    tokens: dict[Role, str] = field(default_factory=dict)
    cloud: Cloud = field(default_factory=Cloud)  # whose hosts a fleet of the provider `fake` could start

    def http(self, token: str) -> HttpClient:
        return HttpClient("http://testserver", token, wire=Bridge(self.web))

    def client(self, role: Role = Role.ADMIN, project: str = "p") -> LaunchClient:
        made = self.call(self.access.create, purpose=Purpose.USER, subject="ada", project=project, role=role)
        return LaunchClient(self.http(made.secret))

    def call(self, what: Any, *args: Any, **named: Any) -> Any:
        """Run a coroutine function in the application's loop."""
        portal = self.web.portal
        assert portal is not None

        async def run() -> Any:
            return await what(*args, **named)

        return portal.call(run)

    def settle(self) -> None:
        for _ in range(5):
            self.call(self.launch.schedule_once)

    def join(self, name: str = "a") -> Hand:
        admin = Principal(PrincipalKind.USER, "ada", "p", Role.ADMIN)
        secret = self.call(self.access.join_token, admin).secret
        joined = self.http(secret).post("/v1/agent/join", Joined, Join(info=info(name)))
        return Hand(self, name, self.http(joined.token), joined.node)


@dataclass
class Hand:
    """What an agent would do, by hand, over HTTP."""

    site: Site
    name: str
    http: HttpClient
    node: str

    def sync(self, *tasks: TaskReport, **params: Any) -> Desired:
        return self.http.post("/v1/agent/sync", Desired, Report(info=info(self.name), tasks=tasks), **params)

    def order(self) -> TaskOrder:
        self.site.settle()
        (order,) = self.sync().orders
        return order

    def say(self, order: TaskOrder, state: TaskState, **more: Any) -> Desired:
        desired = self.sync(TaskReport(task=order.task, epoch=order.epoch, state=state, **more))
        self.site.settle()
        return desired


@pytest.fixture
def site() -> Iterator[Site]:
    records, clock = MemoryRecords(), SystemClock()

    async def mint(run: Run, task: str) -> str:
        return f"token-of-{run.id}"

    cloud = Cloud(hosts=[offer("h1"), offer("h2", 0.5, unavailable="its disk is full")])
    machinery = Machinery(providers=FakeProvider(cloud), tokens=Tokens(), url="http://testserver")
    launch = Launch(records, clock, system_entropy, hints=Hints(), tracker=Tracker(), mint=mint, machinery=machinery)
    access = Access(records, clock, system_entropy, b"k" * 32, is_live=RunsByRecords(records).is_live)
    app = FastAPI()
    app.state.authenticate = access.authenticate
    answer_errors(app)
    app.include_router(api.router(launch, access))
    app.include_router(agent_api.router(launch, access))
    app.include_router(fleets_api.router(launch))
    with TestClient(app) as web:
        yield Site(launch, access, web, cloud=cloud)
