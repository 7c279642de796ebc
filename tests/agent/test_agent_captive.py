"""An agent inside an allocation: nothing that it started outlives it, and an end that came with its own is not told."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from nexus.launch.protocol import Ticket
from tests.agent.conftest import SRC, agent_in_process
from tests.agent.server import Server, is_final, until

pytestmark = pytest.mark.anyio


async def captive(ticket: Path, scratch: Path) -> asyncio.subprocess.Process:
    words = (sys.executable, "-m", "nexus.agent.captive", str(ticket), str(scratch))
    environ = {**os.environ, "PYTHONPATH": str(SRC)}
    return await asyncio.create_subprocess_exec(*words, env=environ, stderr=asyncio.subprocess.PIPE)


def a_ticket(tmp_path: Path, url: str) -> Path:
    ticket = tmp_path / "ticket.json"
    ticket.write_bytes(msgspec.json.encode(Ticket(url=url, token="a-token", name="n")))
    return ticket


def processes(mark: str) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and mark.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


async def test_the_ticket_is_taken_and_everything_goes_with_the_agent(tmp_path: Path) -> None:
    ticket, scratch = a_ticket(tmp_path, "http://127.0.0.1:9"), tmp_path / "scratch"
    scratch.mkdir()
    process = await captive(ticket, scratch)
    await until(lambda: not ticket.exists() and bool(processes(str(scratch / "nexus-"))))
    (home,) = scratch.iterdir()
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "ticket.json").stat().st_mode) == 0o600
    process.send_signal(signal.SIGTERM)
    await process.wait()
    assert not processes(str(scratch))
    assert not list(scratch.iterdir())


async def test_without_a_ticket_it_says_what_is_wrong(tmp_path: Path) -> None:
    process = await captive(tmp_path / "none.json", tmp_path)
    _, said = await process.communicate()
    assert process.returncode == 2
    assert b"no ticket" in said
    assert not processes(str(tmp_path / "nexus-"))


async def test_an_agent_that_doubts_tells_an_end_later_and_one_that_is_stopped_meanwhile_never(
    server: Server, home: Path, order
) -> None:
    server.want(order("exit 3"))
    async with agent_in_process(server, home, doubt_s=30.0):
        await until(lambda: list((home / "tasks").glob("*/job/exit")))
    assert not is_final(server, "task_1")
    async with agent_in_process(server, home, doubt_s=0.05):
        await until(lambda: is_final(server, "task_1"))
    assert server.reports["task_1"].exit_code == 3


async def test_an_end_that_was_asked_for_is_not_doubted(server: Server, home: Path, order) -> None:
    wanted = order("echo up; sleep 60")
    server.want(wanted)
    async with agent_in_process(server, home, doubt_s=30.0):
        await until(lambda: "up" in server.text("task_1"))
        server.want(replace(wanted, wanted="stop"))
        await until(lambda: is_final(server, "task_1"))
