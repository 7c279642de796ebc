"""Calls to a real agent, without a server between: what callers say and hear."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nexus.agent.service import Agent
from nexus.agent.service.calls import Calls
from nexus.kernel.errors import NexusError, NotFoundError, UnavailableError
from nexus.launch.calls import CallKind, Part, opened, read_exit, read_failure
from nexus.launch.protocol import CallOrder
from tests.agent.conftest import agent_in_process
from tests.agent.server import Server, until
from tests.launch.relay.streams import Wire, pair


@dataclass
class Phone:
    """What the server does for callers."""

    agent: Agent
    lines: dict[str, Wire] = field(default_factory=dict)
    dialled: list[str] = field(default_factory=list)
    busy: int = 0  # so many tries find nobody

    @property
    def calls(self) -> Calls:
        calls = self.agent._calls
        assert calls is not None
        return calls

    async def dial(self, call_id: str) -> Wire:
        self.dialled.append(call_id)
        if self.busy:
            self.busy -= 1
            raise UnavailableError("no way through")
        if call_id not in self.lines:
            raise NotFoundError("no such call")
        return self.lines[call_id]

    def call(self, *argv: str, task: str = "task_1", **more: Any) -> Wire:
        kind = CallKind.PORT if "port" in more else CallKind.EXEC
        given = {"kind": kind, "task": task, "epoch": 1 if task else 0, "argv": argv} | more
        order = CallOrder(id=f"call_{len(self.lines)}", **given)
        here, self.lines[order.id] = pair()
        self.calls.follow([order], self.agent._task)
        return here


@asynccontextmanager
async def phoned(server: Server, home: Path) -> AsyncIterator[Phone]:
    """An agent with one running task `task_1`, and a way to call it."""
    async with agent_in_process(server, home) as agent:
        phone = Phone(agent)
        phone.calls._dial = phone.dial
        await until(lambda: "up" in server.text("task_1"))
        yield phone


@dataclass
class Heard:
    """Everything that came."""

    out: bytes = b""
    err: bytes = b""
    code: int | None = None
    error: NexusError | None = None


async def everything(wire: Wire) -> Heard:
    """To the end of the call."""
    heard = Heard()
    async with asyncio.timeout(20):
        while (said := await wire.receive()) is not None:
            part, data = opened(said)
            match part:
                case Part.OUT:
                    heard.out += data
                case Part.ERR:
                    heard.err += data
                case Part.EXIT:
                    heard.code = read_exit(data)
                case Part.FAILED:
                    heard.error = read_failure(data)
                case _:
                    pass
    return heard


async def until_said(wire: Wire, word: bytes) -> bytes:
    """What comes, until it holds `word`."""
    heard = b""
    async with asyncio.timeout(20):
        while word not in heard:
            said = await wire.receive()
            assert said is not None, heard
            part, data = opened(said)
            assert part in {Part.OUT, Part.BEAT}, (part, data)
            heard += data
    return heard


def sleepers(seconds: str) -> list[str]:
    """Processes of this machine, in containers too, that sleep so long."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"sleep\0{seconds}\0".encode() in (folder / "cmdline").read_bytes():
                found.append(folder.name)
        except OSError:
            continue
    return found
