"""Memory: a task that asked for some gets no more, by the kernel or by its shim; who asked for none is not held."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from nexus.agent.adapters.groups import Groups
from nexus.agent.adapters.shim.limits import descendants
from nexus.launch.model import Cause, TaskState
from tests.agent.conftest import agent_in_process
from tests.agent.server import Server, is_final, until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is read from /proc"),
]

MIB = 1024 * 1024
EATER = f"""{sys.executable} -c "
import time
kept = []
for i in range(40):
    kept.append(bytearray(b'x' * 10 * {MIB}))
    time.sleep(0.02)
print('ate it all', flush=True)
time.sleep(%s)
" """


def _is_held_by_the_kernel(tmp_path: Path) -> bool:
    groups, _ = Groups(tmp_path).make("probe", cpu=0, memory_b=MIB)
    Groups(tmp_path).sweep(frozenset())
    return bool(groups)


async def test_the_kernel_ends_what_uses_more_than_it_asked_for(server: Server, home: Path, order) -> None:
    if not _is_held_by_the_kernel(home):
        pytest.skip("this machine lets us make no control groups")
    server.want(order(EATER % 60, memory_b=150 * MIB, cpu=0.5))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_1"), 20)
        report = server.reports["task_1"]
        assert (report.state, report.cause) == (TaskState.FAILED, Cause.MEMORY)
        assert report.detail == "used more than its 157 MB of memory"
        assert "ate it all" not in server.text("task_1")
        await until(lambda: not list((home / "tasks").iterdir()))
    assert not any(place.exists() for place in Groups(home).places("task_1.1"))


async def test_a_child_that_the_kernel_ended_ends_the_task(server: Server, home: Path, order) -> None:
    """A data loader's worker that is gone would leave its trainer waiting for ever."""
    if not _is_held_by_the_kernel(home):
        pytest.skip("this machine lets us make no control groups")
    server.want(order(f"({EATER % 60}) & sleep 300", memory_b=150 * MIB))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_1"), 20)
    assert server.reports["task_1"].cause == Cause.MEMORY


async def test_without_control_groups_the_shim_looks(
    server: Server, home: Path, order, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the whole tree: the one that eats is a child, in a session of its own."""
    monkeypatch.setattr(Groups, "make", lambda *_, **__: ([], []))
    server.want(order(f"setsid {EATER % 60} & wait", memory_b=150 * MIB))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_1"), 20)
    report = server.reports["task_1"]
    assert (report.state, report.cause) == (TaskState.FAILED, Cause.MEMORY)
    assert report.detail == "used more than its 157 MB of memory"


async def test_who_asked_for_nothing_or_stays_below_is_not_held(server: Server, home: Path, order) -> None:
    server.want(order(EATER % 0, "task_a"), order(EATER % 1.2, "task_b", memory_b=600 * MIB))
    async with agent_in_process(server, home):
        await until(lambda: all(is_final(server, task) for task in server.orders), 30)
    assert {report.state for report in server.reports.values()} == {TaskState.SUCCEEDED}


async def test_memory_that_forks_share_counts_once(
    server: Server, home: Path, order, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Groups, "make", lambda *_, **__: ([], []))
    script = f"""{sys.executable} -c "
import os, time
kept = bytearray(b'x' * 100 * {MIB})
for _ in range(4):
    if os.fork() == 0:
        time.sleep(2.5)
        os._exit(0)
time.sleep(2.5)
" """
    server.want(order(script, memory_b=250 * MIB))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_1"), 20)
    assert server.reports["task_1"].state == TaskState.SUCCEEDED


def test_groups_that_a_killed_agent_left_are_swept(tmp_path: Path) -> None:
    groups = Groups(tmp_path)
    made, own = groups.make("task_1.1", cpu=2, memory_b=100 * MIB)
    if not made:
        pytest.skip("this machine lets us make no control groups")
    assert len(made) == len(own)
    kept, _ = groups.make("task_2.1", cpu=0, memory_b=MIB)
    Groups(tmp_path).sweep(frozenset({"task_2.1"}))
    assert not any(group.exists() for group in made)
    assert all(group.exists() for group in kept)
    Groups(tmp_path).sweep(frozenset())
    assert not any(group.exists() for group in kept)


def test_on_a_machine_without_control_groups_there_are_none(tmp_path: Path) -> None:
    groups = Groups(tmp_path, root=tmp_path / "nothing")
    assert groups.make("task_1.1", cpu=2, memory_b=MIB) == ([], [])
    groups.sweep(frozenset())


def test_the_tree_of_a_process(tmp_path: Path) -> None:
    assert os.getpid() in descendants([os.getppid()])
    assert descendants([2**22 + 1]) == [2**22 + 1]
