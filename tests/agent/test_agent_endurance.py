"""Disks that fill at a bad time, set-ups that are killed, lines without an end; and nothing that piles up."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nexus.agent.adapters.groups import Groups
from nexus.agent.adapters.isolation.sandbox import find_sandbox
from nexus.agent.adapters.shim.formats import decode_status
from nexus.infra.package import pack
from nexus.launch.model import Cause, TaskState
from tests.agent.conftest import agent_in_process, agent_process
from tests.agent.server import Server, is_final, until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def disk(anyio_backend: str, tmp_path: Path) -> AsyncIterator[Path]:
    """A disk of four megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = await asyncio.create_subprocess_exec(
        "mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk), stderr=asyncio.subprocess.DEVNULL
    )
    if await mount.wait():
        pytest.skip("this machine does not let us mount a small disk")
    yield disk
    await (await asyncio.create_subprocess_exec("umount", "-l", str(disk))).wait()


async def test_a_disk_that_fills_before_the_start_fails_the_task_and_no_other(
    server: Server, disk: Path, order, tmp_path: Path
) -> None:
    """While its workspace is unpacked, and while its setup writes. What it had taken is given back."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "zeros").write_bytes(bytes(20_000_000))  # packs well
    pack(tmp_path / "tree", tmp_path / "package")
    digest = server.put((tmp_path / "package").read_bytes())
    async with agent_in_process(server, disk / "home"):
        server.want(order("echo never", "task_a", workspace=digest))
        await until(lambda: is_final(server, "task_a"))
        server.want(order("echo never", "task_b", setup="head -c 20000000 /dev/zero > $VIRTUAL_ENV/zeros"))
        await until(lambda: is_final(server, "task_b"), 30)
        await until(lambda: not list((disk / "home" / "tasks").iterdir()))
        server.want(order("echo fine", "task_c"))
        await until(lambda: is_final(server, "task_c"))
    a, b, c = (server.reports[task] for task in ("task_a", "task_b", "task_c"))
    assert (a.state, a.cause, b.state, b.cause) == (TaskState.FAILED, Cause.SETUP, TaskState.FAILED, Cause.SETUP)
    assert "No space left on device" in a.detail
    assert "No space left on device" in b.detail
    assert c.state == TaskState.SUCCEEDED


async def test_a_disk_that_is_full_at_the_end_loses_the_output_not_the_result(
    server: Server, disk: Path, order
) -> None:
    """A folder cannot be packed: the task has succeeded all the same, and says what is missing."""
    script = """head -c 2200000 /dev/urandom > $NEXUS_OUTPUTS/weights
for size in 65536 4096 1; do while head -c $size /dev/zero >> filler 2>/dev/null; do :; done; done
truncate -s -20000 filler; echo done"""
    server.want(order(script))
    async with agent_in_process(server, disk / "home"):
        await until(lambda: is_final(server, "task_1"), 30)
    report = server.reports["task_1"]
    assert report.state == TaskState.SUCCEEDED, server.lines("task_1")
    assert "an output could not be" in report.detail
    assert "No space left on device" in report.detail
    assert server.text("task_1") == "done"


async def test_a_setup_that_is_killed_fails_its_task_and_is_begun_anew(
    server: Server, home: Path, order, tmp_path: Path
) -> None:
    setup = f"echo once >> {tmp_path}/setups; echo $$ > {tmp_path}/pid; test -e {tmp_path}/go || sleep 300"
    server.want(order("echo never", "task_a", setup=setup))
    async with agent_in_process(server, home):
        await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith("\n"))
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        await until(lambda: is_final(server, "task_a"))
        (tmp_path / "go").touch()
        server.want(order("echo fine", "task_b", setup=setup))
        await until(lambda: is_final(server, "task_b"), 30)
    assert server.reports["task_a"].cause == Cause.SETUP
    assert "killed by signal 9" in server.reports["task_a"].detail
    assert server.text("task_b") == "fine"
    assert (tmp_path / "setups").read_text() == "once\nonce\n"


async def test_a_shim_of_a_setup_that_is_killed_is_told_apart(
    server: Server, home: Path, order, tmp_path: Path
) -> None:
    server.want(order("echo never", setup=f"touch {tmp_path}/up; sleep 300"))
    async with agent_in_process(server, home):
        await until((tmp_path / "up").exists)
        status = decode_status((home / "tasks" / "task_1.1" / "setup" / "claim").read_bytes())
        os.kill(int(status["shim"]), signal.SIGKILL)
        await until(lambda: is_final(server, "task_1"))
    assert server.reports["task_1"].cause == Cause.SETUP
    assert "shim was killed" in server.reports["task_1"].detail


async def test_a_line_without_an_end_arrives_whole(server: Server, home: Path, order) -> None:
    server.want(order(f"{sys.executable} -c \"print('x' * 10_000_000, end='')\""))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_1"), 30)
    assert sum(len(line.text) for line in server.lines("task_1")) == 10_000_000
    assert [line.whole for line in server.lines("task_1")].count(True) == 1


@pytest.mark.parametrize(
    "beats", [pytest.param(500, id="500"), pytest.param(5_000, id="5,000", marks=pytest.mark.slow)]
)
async def test_heartbeats_take_no_memory(server: Server, home: Path, beats: int) -> None:
    server.heartbeat_s = 0.002
    async with agent_process(server, home) as agent:
        await until(lambda: server.syncs > 200, 30)
        before = _resident_b(agent.pid)
        await until(lambda: server.syncs > 200 + beats, 120)
        assert _resident_b(agent.pid) - before < 1_000_000


@pytest.mark.parametrize("cycles", [pytest.param(20, id="20"), pytest.param(200, id="200", marks=pytest.mark.slow)])
async def test_tasks_that_begin_and_end_leave_nothing(server: Server, home: Path, order, cycles: int) -> None:
    """No open file, no process, no mount, no control group, no folder; stopped or ended, in a sandbox or not."""
    kinds: list[dict[str, object]] = [{}, {"memory_b": 10**8, "cpu": 1.0}]
    if find_sandbox():
        kinds.append({"isolation": "sandbox"})
    async with agent_process(server, home) as agent:
        await _cycle(server, home, order, kinds, "first", 10)
        before = _open_files(agent.pid)
        for round_ in range(cycles // 10):
            await _cycle(server, home, order, kinds, f"round_{round_}", 10)
        await until(lambda: _open_files(agent.pid) <= before + 1)  # one kept connection more or less
        await until(lambda: not _processes_of(home, but=agent.pid))
        assert str(home) not in _mounts()
        assert not [group for place in Groups(home).places() if place.exists() for group in place.glob("*/")]


async def _cycle(server: Server, home: Path, order, kinds: list[dict[str, object]], name: str, count: int) -> None:
    """Half of the tasks end by themselves, half are stopped."""
    tasks = [f"{name}_{number}" for number in range(count)]
    scripts = ["sleep 300 & echo up", "echo up; sleep 300 & sleep 300"]
    server.want(*(order(scripts[i % 2], task, grace_s=0.5, **kinds[i % len(kinds)]) for i, task in enumerate(tasks)))
    await until(lambda: all("up" in server.text(task) for task in tasks), 30)
    for task in tasks[1::2]:
        server.change(task, wanted="stop")
    await until(lambda: all(is_final(server, task) for task in tasks), 30)
    await until(lambda: not any((home / "tasks").iterdir()), 30)


def _resident_b(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(rollup.split("Rss:")[1].split()[0]) * 1024


def _open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def _mounts() -> str:
    return Path("/proc/self/mounts").read_text()


def _processes_of(home: Path, but: int) -> list[str]:
    """What runs for this home, zombies and the nursery left out."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes() + (place / "environ").read_bytes()
        except OSError:
            continue
        if f"{home}/tasks/".encode() in words and place.name != str(but):
            found.append(place.name)
    return found
