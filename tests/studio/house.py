"""The real services in memory and in a folder, and Studio over them: what the page tests visit."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from nexus.access.model import Purpose
from nexus.access.service import Access, People
from nexus.app.bridges import JobsByLaunch, ModelsByTrack, RunsByRecords, UseByRecords
from nexus.deploy.adapters.gateway.server import Gateway
from nexus.deploy.faces.api import router as deploy_routes
from nexus.deploy.service import Deploy
from nexus.federate.service import FederateService
from nexus.infra.blobs import open_blobs
from nexus.infra.clock import SystemClock, system_entropy
from nexus.infra.hints import Hints
from nexus.infra.records.memory import MemoryRecords
from nexus.infra.records.sql import open_engine
from nexus.infra.web.errors import answer_errors
from nexus.kernel import logframes
from nexus.kernel.events import Event
from nexus.kernel.identity import Principal, PrincipalKind, Role
from nexus.kernel.ids import new_id
from nexus.kernel.records import Kind, R
from nexus.launch.model import NODES, RUNS, TASKS, Capacity, Node, RolePlan, Run, RunPlan, RunState, Task, TaskState
from nexus.launch.ports import MachineSpan, Span
from nexus.launch.service.costs import Costs
from nexus.launch.service.launch import Launch
from nexus.store.adapters.launcher import JobLauncher
from nexus.store.adapters.shelf import FolderShelf
from nexus.store.faces.api import router as store_routes
from nexus.store.service import Store
from nexus.studio.ports import Services
from nexus.studio.site import router
from nexus.studio.sources.access import AccessSource
from nexus.studio.sources.launch import LaunchSource
from nexus.studio.sources.track import TrackSource
from nexus.track import frames
from nexus.track.adapters import metrics_tables
from nexus.track.adapters.log_files import LogFiles
from nexus.track.adapters.metrics_sql import SqlMetrics
from nexus.track.model import ArtifactKind, ArtifactReport, StreamOwner
from nexus.track.service.track import Track

PROJECT = "default"
OWNER = Principal(PrincipalKind.USER, "ada", PROJECT, Role.ADMIN)


@dataclass
class House:
    """Services, and short ways to make things happen."""

    records: MemoryRecords
    access: Access
    track: Track
    launch: Launch
    deploy: Deploy
    federate: FederateService
    gateway: Gateway
    app: FastAPI
    clock: SystemClock
    services: Services

    async def session(self, role: Role = Role.ADMIN) -> str:
        made = await self.access.create(purpose=Purpose.SESSION, subject="ada", project=PROJECT, role=role)
        return made.secret

    async def add(self, kind: Kind[R], record: R) -> R:
        await self.records.apply((kind, record))
        return replace(record, version=record.version + 1)

    async def node(self, name: str, **more: Any) -> Node:
        capacity = more.pop("capacity", Capacity(cpu=8, memory_b=32_000_000_000, disk_b=10**12))
        node = Node(id=self.id("node"), project=PROJECT, created=self.clock.now(), name=name, capacity=capacity, **more)
        return await self.add(NODES, replace(node, seen=self.clock.now()))

    async def run(self, name: str, state: RunState = RunState.RUNNING, *, kind: str = "train", **more: Any) -> Run:
        plan = RunPlan(kind=kind, roles=(RolePlan(name="worker", argv=("python", "train.py")),))
        now = self.clock.now()
        given: dict[str, Any] = {"created": now, "started": now - 65, "user": "ada"} | more
        run = Run(id=self.id("run"), project=PROJECT, name=name, kind=kind, plan=plan, state=state, **given)
        event = Event(f"run.{state}", run.id, PROJECT, now, "ada", {"reason": run.reason})
        await self.records.apply((RUNS, run), events=[Event("run.queued", run.id, PROJECT, now - 70), event])
        return replace(run, version=1)

    async def task(
        self, run: Run, node: Node, index: int = 0, state: TaskState = TaskState.RUNNING, **more: Any
    ) -> StreamOwner:
        given: dict[str, Any] = {"created": self.clock.now()} | more
        task = Task(
            id=self.id("task"), project=PROJECT, run=run.id, role="worker", index=index, price=node.price,
            attempt=0, node=node.id, epoch=1, state=state, cpu=2, memory_b=4_000_000_000,
            detail="epoch 3 of 10", **given,
        )  # fmt: skip
        await self.add(TASKS, task)
        return StreamOwner(project=PROJECT, run=run.id, task=task.id, role="worker", index=index)

    async def log(self, owner: StreamOwner, *lines: str, stream: str = "out") -> None:
        at = int(self.clock.now() * 1000)
        data = b"".join(logframes.frame(at, stream, line.encode()) for line in lines)
        await self.track.logs.append(owner, await self.track.log_end(owner.task), data)

    async def points(self, owner: StreamOwner, values: dict[str, list[float]], *, start: int = 0) -> None:
        count = len(next(iter(values.values())))
        steps, now = list(range(start, start + count)), self.clock.now()
        data = b"".join(frames.write_points(list(values), steps, [now] * count, list(values.values())))
        await self.track.metrics.append(owner, "main", self.sent.get(owner.task, 0), data)
        self.sent[owner.task] = self.sent.get(owner.task, 0) + len(data)

    async def artifact(
        self, owner: StreamOwner, name: str, data: bytes, kind: ArtifactKind, *, packed: bool = False, **meta: str
    ) -> None:
        digest = hashlib.sha256(data).hexdigest()

        async def chunks() -> AsyncIterator[bytes]:
            yield data

        await self.track.uploads.put(OWNER, digest, chunks())
        report = ArtifactReport(name=name, digest=digest, size_b=len(data), kind=kind, packed=packed, meta=meta)
        await self.track.artifacts.report(owner, report)

    def id(self, prefix: str) -> str:
        return new_id(prefix, system_entropy(8))

    def __post_init__(self) -> None:
        self.sent: dict[str, int] = {}
        self.leave: list[Callable[[], Awaitable[object]]] = []


@dataclass
class RecordsLedger:
    """Implements `launch.ports.Ledger` over a handful of records in memory."""

    records: MemoryRecords

    async def tasks(self, project: str | None, since: float, until: float, take: Callable[[Span], None]) -> None:
        for task in await self.records.find(TASKS, {"project": project} if project else {}):
            run = await self.records.get(RUNS, task.run)
            if run is not None and task.price:
                start, end = task.created, task.ended
                take(Span(task.project, run.id, run.name, run.user, task.node, task.price, start, end))

    async def machines(self, project: str | None, since: float, until: float) -> list[MachineSpan]:
        return [MachineSpan("lab", "gpu-1", "", 3.0, until - 1800, None)]


@asynccontextmanager
async def open_house(folder: Path, *, costs: bool = True) -> AsyncIterator[House]:
    """Everything, until it is left."""
    records, clock, hints = MemoryRecords(), SystemClock(), Hints()
    runs = RunsByRecords(records)
    access = Access(records, clock, system_entropy, bytes(32), is_live=runs.is_live)
    engine = open_engine(f"sqlite:///{folder / 'metrics.db'}")
    metrics_tables.metadata.create_all(engine)
    metrics = SqlMetrics(engine)
    logs, blobs = LogFiles(folder / "logs"), open_blobs("memory:")
    track = Track(records, blobs, metrics, logs, clock, system_entropy, hints, runs)

    async def mint(run: Run, task: str) -> str:
        return access.run_token(run.id, run.project)

    launch = Launch(records, clock, system_entropy, hints=hints, tracker=track, mint=mint)
    gateway = Gateway(access.authenticate)
    jobs, models = JobsByLaunch(launch, records), ModelsByTrack(track)
    deploy = Deploy(records, jobs, models, gateway, clock, system_entropy, hints)
    source = TrackSource(track)
    app = FastAPI()
    app.state.authenticate = access.authenticate
    answer_errors(app)
    store = Store(FolderShelf(), JobLauncher(launch, track.uploads, deploy))
    federate = FederateService(records, runs, clock)
    services = Services(
        clock=clock,
        hints=hints,
        sessions=AccessSource(access, People(records, clock, system_entropy, access, UseByRecords(records))),
        launch=LaunchSource(launch, records),
        track=source,
        models=source,
        federate=federate,
        deploy=deploy,
        store=store,
        costs=Costs(records, clock, RecordsLedger(records)) if costs else None,
    )
    for routes in (router(services), deploy_routes(deploy), store_routes(store)):
        app.include_router(routes)
    await gateway.start()
    house = House(records, access, track, launch, deploy, federate, gateway, app, clock, services)
    try:
        yield house
    finally:
        for leave in house.leave:
            await leave()
        await gateway.close()
        metrics.close()


def learning(count: int, seed: int = 1) -> dict[str, list[float]]:
    """Curves as a training run makes them."""
    dice = random.Random(seed)
    loss = [2.1 * math.exp(-step / (count / 4)) + 0.12 + dice.gauss(0, 0.03) for step in range(count)]
    accuracy = [0.97 - 0.87 * math.exp(-step / (count / 5)) + dice.gauss(0, 0.006) for step in range(count)]
    rate = [0.01 * (0.5 + 0.5 * math.cos(math.pi * step / count)) for step in range(count)]
    return {"loss": loss, "accuracy": accuracy, "learning_rate": rate}
