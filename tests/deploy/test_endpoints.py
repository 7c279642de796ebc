"""Endpoints end to end: real replicas of the digits predictor, the real gateway, continuous load."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nexus.deploy.adapters.gateway.server import Gateway
from nexus.deploy.core.jobsection import deployment
from nexus.deploy.model import Deployment, EndpointState, EndpointView
from nexus.deploy.service import Deploy
from nexus.infra.clock import SystemClock, system_entropy
from nexus.infra.records.memory import MemoryRecords
from nexus.kernel.errors import ConflictError, LimitError, NotFoundError, UsageError
from nexus.launch.core.compile import compile_job
from nexus.launch.core.jobfile.reading import read_jobs
from nexus.launch.model import RUNS, Run, RunState, Submission
from tests.deploy.processes import LocalJobs
from tests.deploy.wires import KEYS, Client, client, until

pytestmark = pytest.mark.anyio

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "serve-digits"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two versions of a classifier of real digits, trained here; version 2 sees more."""
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    images, labels = load_digits(return_X_y=True)
    found = {}
    for version, rows in ((1, 400), (2, 1400)):
        model = MLPClassifier((32,), solver="lbfgs", max_iter=2000, random_state=version)
        model.fit(images[:rows] / 16.0, labels[:rows])
        folder = tmp_path_factory.mktemp(f"digits{version}")
        arrays = {f"coefs_{i}": array for i, array in enumerate(model.coefs_)}
        arrays |= {f"intercepts_{i}": array for i, array in enumerate(model.intercepts_)}
        np.savez(folder / "model.npz", **arrays)
        found[f"model://digits@{version}"] = folder
    return found


@dataclass
class House:
    deploy: Deploy
    jobs: LocalJobs
    gateway: Gateway

    async def put(self, wanted: Deployment) -> EndpointView:
        return await self.deploy.deploy(wanted, project="lab", user="ada")

    async def until(self, name: str, revision: int, *states: str, timeout_s: float = 60) -> EndpointView:
        async with asyncio.timeout(timeout_s):
            while True:
                view = await self.deploy.show("lab", name)
                if view.revision == revision and view.state in states and len(view.running) == view.replicas:
                    return view
                await asyncio.sleep(0.05)

    async def faulty(self, name: str) -> EndpointView:
        async with asyncio.timeout(60):
            while not (view := await self.deploy.show("lab", name)).fault:  # noqa: ASYNC110 - as a client polls
                await asyncio.sleep(0.05)
        return view

    async def until_there(self, name: str) -> EndpointView:
        async with asyncio.timeout(10):
            while name not in {view.name for view in await self.deploy.list("lab")}:  # noqa: ASYNC110 - a client polls
                await asyncio.sleep(0.05)
        return await self.deploy.show("lab", name)

    async def gone(self, name: str) -> None:
        async with asyncio.timeout(30):
            while name in {view.name for view in await self.deploy.list("lab")}:  # noqa: ASYNC110 - as a client polls
                await asyncio.sleep(0.05)


@dataclass
class Registry:
    """Implements `deploy.ports.Models` over what was trained above."""

    versions: dict[str, Path]

    async def pin(self, project: str, reference: str) -> str:
        pinned = max(self.versions) if reference == "model://digits@latest" else reference
        if pinned not in self.versions:
            raise NotFoundError(f"no model {reference}")
        return pinned


@asynccontextmanager
async def house(digits: dict[str, Path], workspace: Path, tmp_path: Path) -> AsyncIterator[House]:
    async def authenticate(key: str):
        return KEYS.get(key)

    gateway = Gateway(authenticate)
    await gateway.start()
    jobs = LocalJobs(workspace, digits, tmp_path / "replicas.log")
    deploy = Deploy(MemoryRecords(), jobs, Registry(digits), gateway, SystemClock(), system_entropy, jobs.hints)

    async def agent() -> None:
        while True:
            await jobs.tick()
            await asyncio.sleep(0.05)

    loops = [asyncio.create_task(deploy.run_forever()), asyncio.create_task(agent())]
    try:
        yield House(deploy, jobs, gateway)
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        jobs.kill_everything()
        await gateway.close(drain_s=1)


def example(*overrides: str) -> Deployment:
    """The example's own job file."""
    text = (EXAMPLE / "job.yaml").read_text()
    [spec] = read_jobs(text, file="job.yaml", overrides=overrides)
    return deployment(spec, compile_job(spec), text)


def pixels(number: int) -> tuple[bytes, int]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    row = 1400 + number % 397
    return json.dumps({"pixels": images[row].tolist()}).encode(), int(labels[row])


@dataclass
class Load:
    """Clients that ask without a pause, on connections that they keep."""

    door: Gateway
    bodies: list[tuple[bytes, int]]
    answers: list[tuple[int, int]] = field(default_factory=list)  # status, revision
    problems: list[str] = field(default_factory=list)
    right: int = 0
    stopped: bool = False

    async def one(self) -> None:
        async with client(self.door) as me:
            number = 0
            while not self.stopped:
                number += 1
                await self._ask(me, *self.bodies[number % len(self.bodies)])

    async def _ask(self, me: Client, body: bytes, label: int) -> None:
        me.ask(body=body)
        try:
            answer = await me.answer()
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError) as problem:
            self.problems.append(repr(problem))
            self.stopped = True
            return
        if answer.status == 200:
            self.right += json.loads(answer.body)["digit"] == label
        else:
            self.problems.append(f"{answer.status} {answer.body[:200]!r}")
        self.answers.append((answer.status, int(answer.headers.get("x-nexus-revision", 0))))

    async def seen(self, count: int) -> None:
        """Wait for that many answers more."""
        goal = len(self.answers) + count
        await until(lambda: len(self.answers) >= goal or self.stopped)


@asynccontextmanager
async def load(door: Gateway, clients: int) -> AsyncIterator[Load]:
    found = Load(door, [pixels(number) for number in range(20)])
    tasks = [asyncio.create_task(found.one()) for _ in range(clients)]
    try:
        yield found
    finally:
        found.stopped = True
        await asyncio.gather(*tasks)


async def test_an_update_and_a_kill_under_load_lose_nothing(digits: dict[str, Path], tmp_path: Path):
    async with house(digits, EXAMPLE, tmp_path) as home:
        await home.put(example("deploy.model=model://digits@1"))
        view = await home.until("digits", 1, "ready")
        assert {replica.revision for replica in view.running} == {1}

        async with load(home.gateway, clients=6) as asked:
            await asked.seen(100)
            await home.put(Deployment(name="digits", model="model://digits@2"))
            view = await home.until("digits", 2, "ready")
            await asked.seen(100)
            assert asked.answers[-1] == (200, 2)

            victim = next(one for one in home.jobs.started if one.task.id == view.running[0].task)
            os.kill(victim.process.pid, signal.SIGKILL)
            await asked.seen(200)
            await home.until("digits", 2, "ready")
            await asked.seen(50)

        assert asked.problems == []
        assert {status for status, _ in asked.answers} == {200}
        assert {revision for _, revision in asked.answers} == {1, 2}
        assert asked.right / len(asked.answers) > 0.85
        view = await home.deploy.show("lab", "digits")
        assert (view.errors, view.requests) == (0, len(asked.answers))


async def test_a_bad_revision_serves_nobody_and_goes_back(digits: dict[str, Path], tmp_path: Path):
    async with house(digits, EXAMPLE, tmp_path) as home:
        await home.put(example("deploy.model=model://digits@1", "deploy.replicas=1"))
        await home.until("digits", 1, "ready")
        async with load(home.gateway, clients=2) as asked:
            bad = example("deploy.predictor=predictor:Nothing", "deploy.replicas=1")
            await home.put(bad)
            view = await home.faulty("digits")
            await asked.seen(20)
        assert asked.problems == []
        assert {revision for _, revision in asked.answers} == {1}
        assert re.match(r"revision 2 is bad: its replicas ended \d times: exit 2; back to revision 1", view.fault)
        view = await home.until("digits", 1, "ready")
        assert view.model == "model://digits@1"


async def test_use_cases(digits: dict[str, Path], tmp_path: Path):
    async with house(digits, EXAMPLE, tmp_path) as home:
        with pytest.raises(NotFoundError, match="no endpoint digits to update"):
            await home.put(Deployment(name="digits", model="model://digits@1"))
        with pytest.raises(NotFoundError, match="no model"):
            await home.put(example("deploy.model=model://digits@9"))
        with pytest.raises(UsageError):
            await home.put(Deployment(name="digits", plan=example().plan, model="model://digits@1", replicas=0))
        view = await home.put(example("deploy.replicas=1"))
        assert (view.model, view.state) == ("model://digits@2", EndpointState.CREATING)
        same = await home.put(example("deploy.replicas=1"))
        assert same.revision == 1
        await home.until("digits", 1, "ready")
        with pytest.raises(ConflictError, match="no earlier revision"):
            await home.deploy.rollback("lab", "digits")
        await home.put(Deployment(name="digits", replicas=2))
        await home.until("digits", 1, "ready")
        await home.put(Deployment(name="digits", model="model://digits@1"))
        await home.until("digits", 2, "ready")
        await home.deploy.rollback("lab", "digits")
        view = await home.until("digits", 3, "ready")
        assert view.model == "model://digits@2"
        assert [view.name for view in await home.deploy.list("lab")] == ["digits"]
        assert await home.deploy.list("elsewhere") == []
        with pytest.raises(NotFoundError):
            await home.deploy.show("elsewhere", "digits")
        await home.deploy.delete("lab", "digits")
        await home.gone("digits")
        async with client(home.gateway) as me:
            me.ask()
            assert (await me.answer()).status == 404


async def test_a_launched_deployment_becomes_an_endpoint(digits: dict[str, Path], tmp_path: Path):
    """As `nexus launch` and the Job Store submit it; deploying again updates it, deleting it stops the run."""
    async with house(digits, EXAMPLE, tmp_path) as home:
        wanted = example("deploy.replicas=1", "deploy.model=model://digits@1")
        assert wanted.plan
        submission = Submission(name="digits", plan=wanted.plan, key="launched")
        run = await home.jobs.submit(submission, project="lab", user="ada")
        await home.deploy.records.apply((RUNS, run))
        home.jobs.hints.hint("launch.schedule")
        view = await home.until_there("digits")
        assert (view.engine, view.model, view.revisions[0].run) == ("predictor", "model://digits@1", run.id)
        await home.until("digits", 1, "ready")
        await home.put(Deployment(name="digits", model="model://digits@2"))
        await home.until("digits", 2, "ready")
        assert home.jobs.runs[run.id].state is RunState.STOPPED


async def test_nothing_is_looked_at_while_nothing_happens(digits: dict[str, Path], tmp_path: Path):
    async with house(digits, EXAMPLE, tmp_path) as home:
        await home.put(example("deploy.replicas=1"))
        await home.until("digits", 1, "ready")
        await asyncio.sleep(0.2)  # the look that sees it ready, and the one after that
        looks = home.gateway.table.version
        await asyncio.sleep(1.2)
        assert home.gateway.table.version == looks
        home.jobs.hints.hint("launch.schedule")
        async with asyncio.timeout(5):
            while home.gateway.table.version == looks:  # noqa: ASYNC110 - the gateway's table has no event
                await asyncio.sleep(0.01)


async def test_an_endpoint_that_cannot_be_looked_after_harms_no_other(
    digits: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with house(digits, EXAMPLE, tmp_path) as home:
        submit = home.jobs.submit

        async def picky(submission: Submission, *, project: str, user: str) -> Run:
            if submission.name.startswith("a-lost-one"):
                raise LimitError("the project has too many runs")
            return await submit(submission, project=project, user=user)

        monkeypatch.setattr(home.jobs, "submit", picky)
        wanted = example("deploy.replicas=1")
        await home.put(replace(wanted, name="a-lost-one"))
        await home.put(wanted)
        await home.until("digits", 1, "ready", timeout_s=20)
        lost = await home.deploy.show("lab", "a-lost-one")
        assert (lost.running, lost.reason) == ((), "the project has too many runs")
        monkeypatch.setattr(home.jobs, "submit", submit)
        lost = await home.until("a-lost-one", 1, "ready")
        assert lost.reason == ""


async def test_what_the_predictor_says_to_wrong_input(digits: dict[str, Path], tmp_path: Path):
    async with house(digits, EXAMPLE, tmp_path) as home:
        await home.put(example("deploy.replicas=1"))
        await home.until("digits", 1, "ready")
        async with client(home.gateway) as me:
            for body, path, status, word in (
                (b"{", "predict", 400, "not JSON"),
                (b"[1]", "predict", 400, "64 numbers"),
                (b"{}", "nowhere", 404, "nothing is at"),
            ):
                me.ask(path=f"/e/digits/{path}", body=body)
                answer = await me.answer()
                error: dict[str, Any] = json.loads(answer.body)["error"]
                assert (answer.status, word in error["message"]) == (status, True)
            me.ask(body=pixels(3)[0])
            assert json.loads((await me.answer()).body)["digit"] == pixels(3)[1]
        with contextlib.suppress(NotFoundError):
            await home.deploy.delete("lab", "digits")
