"""An agent on a temporary home against the small server, in this process or in one of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from nexus.agent.service import Agent
from nexus.agent.wire import Membership, Options, open_agent, remember
from nexus.launch.protocol import TaskOrder
from tests.agent.nvml import make_driver
from tests.agent.server import TOKEN, Server

SRC = Path(__file__).parents[2] / "src"


@pytest.fixture
async def server(anyio_backend: str) -> AsyncIterator[Server]:
    server = Server()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@asynccontextmanager
async def agent_in_process(server: Server, home: Path, **options: Any) -> AsyncIterator[Agent]:
    member = Membership(url=server.url, node="node_1", token=TOKEN, name="here")
    stop = asyncio.Event()
    async with open_agent(home, member, Options(**options)) as agent:
        running = asyncio.ensure_future(agent.run(stop))
        try:
            yield agent
        finally:
            stop.set()
            await running


@asynccontextmanager
async def agent_process(server: Server, home: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The real program, to be killed."""
    remember(home, Membership(url=server.url, node="node_1", token=TOKEN, name="here"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "nexus.agent", str(home), env={**os.environ, "PYTHONPATH": str(SRC)}
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await process.wait()


@pytest.fixture
def order() -> Callable[..., TaskOrder]:
    """Orders with what every order needs; the first argument is the script."""

    def make(script: str = "", task: str = "task_1", **changes: Any) -> TaskOrder:
        values: dict[str, Any] = {
            "task": task,
            "run": "run_1",
            "run_name": "job",
            "project": "default",
            "role": "main",
            "index": 0,
            "count": 1,
            "attempt": 1,
            "epoch": 1,
            "lease_s": 30.0,
            "script": script,
            "grace_s": 1.0,
            "token": "run-token",
        }
        return TaskOrder(**(values | changes))

    return make


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The library of an NVIDIA driver with two cards."""
    library = make_driver(tmp_path_factory.mktemp("nvml"))
    if library is None:
        pytest.skip("a driver to test against is compiled here, and there is no C compiler")
    return library
