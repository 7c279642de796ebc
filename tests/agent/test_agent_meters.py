"""What tasks use, as metrics: the arithmetic, and readings of real processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from nexus.agent.adapters.home import Home
from nexus.agent.adapters.meters import TaskMeter
from nexus.agent.adapters.shim.formats import encode_status, start_ticks
from nexus.agent.adapters.spool import DiskSpool
from nexus.agent.core.meters import system_metrics
from nexus.agent.model import Reading
from nexus.launch.model import TaskState
from nexus.track import frames
from tests.agent.conftest import agent_in_process
from tests.agent.server import Server, is_final, until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="what processes use is read from /proc"),
]
MIB = 1024 * 1024


def reading(lived_s: float, cpu_s: float, **changes: float | None) -> Reading:
    values = {"memory_b": 100, "read_b": 0, "written_b": 0} | changes
    return Reading(lived_s=lived_s, cpu_s=cpu_s, **values)  # type: ignore[arg-type]


def test_metrics_are_what_was_used_since_the_reading_before() -> None:
    first = reading(10.0, 5.0, read_b=1000)
    assert system_metrics(None, first) == {
        "system/cpu": 50.0,
        "system/memory_b": 100.0,
        "system/read_b_s": 100.0,
        "system/written_b_s": 0.0,
    }
    then = reading(20.0, 25.0, read_b=500, gpu_percent=87.0, gpu_memory_b=3 * MIB)
    assert system_metrics(first, then) == {
        "system/cpu": 200.0,
        "system/memory_b": 100.0,
        "system/read_b_s": 0.0,  # a process ended, and took what it had read with it
        "system/written_b_s": 0.0,
        "system/gpu": 87.0,
        "system/gpu_memory_b": 3.0 * MIB,
    }
    assert system_metrics(then, then) == {}
    assert "system/read_b_s" not in system_metrics(None, reading(1.0, 1.0, read_b=None))


async def test_a_running_task_has_metrics_of_the_whole_tree(server: Server, home: Path, order) -> None:
    """Of its children too, and of those that ended; from an agent that was started again, in another stream."""
    script = f"""{sys.executable} -c "
import time
kept = bytearray(b'x' * 50 * {MIB})
print('up', flush=True)
while True: pass
" & wait"""
    server.want(order(script))
    for _ in range(2):
        streams = len(server.metrics)
        async with agent_in_process(server, home, meter_s=0.2):
            await until(lambda: "up" in server.text("task_1"))
            await until(lambda: len(server.metrics) > streams and _points(server).get("system/cpu", 0) > 30, 20)  # noqa: B023
    async with agent_in_process(server, home):
        server.change("task_1", wanted="stop")
        await until(lambda: is_final(server, "task_1"))
    last = _points(server)
    assert 30 < last["system/cpu"] < 400
    assert 50 * MIB < last["system/memory_b"] < 300 * MIB
    assert {"system/read_b_s", "system/written_b_s"} < set(last)
    assert "system/gpu" not in last
    assert all(name.startswith("m-agent-") for _, name in server.metrics)


async def test_a_task_in_a_sandbox_is_measured_and_cannot_forge_it(server: Server, home: Path, order) -> None:
    script = "ln -s /etc/passwd $NEXUS_SPOOL/m-x.bin; mkfifo $NEXUS_SPOOL/m-y.bin; touch $NEXUS_SPOOL/m-agent-z.bin\n"
    server.want(order(script + "echo up; sleep 300", isolation="sandbox"))
    async with agent_in_process(server, home, meter_s=0.2):
        await until(lambda: "up" in server.text("task_1") or is_final(server, "task_1"))
        if server.reports["task_1"].state != TaskState.RUNNING:
            pytest.skip("bubblewrap does not work here")
        await until(lambda: "system/memory_b" in _points(server))
        server.change("task_1", wanted="stop")
        await until(lambda: is_final(server, "task_1"))
    assert _points(server)["system/memory_b"] > MIB
    assert {name.startswith("m-agent-") for _, name in server.metrics} == {True}
    assert not [name for _, name in server.metrics if name.endswith("z.bin")]


def test_gpus_of_a_task_are_read_by_the_machines_numbers(home: Path, order, driver: str) -> None:
    folder = Home(home)
    one = order(gpus=(0,))
    folder.task(one).make()
    folder.task(one).job.mkdir()
    me = {"shim": os.getpid(), "shim_start": start_ticks(os.getpid()), "job_start": start_ticks(os.getpid())}
    (folder.task(one).job / "claim").write_bytes(encode_status(**me))
    found = TaskMeter(folder, {}, driver)(one)
    assert found is not None
    assert (found.gpu_percent, found.gpu_memory_b) == (87.0, 1_000_000)
    given = TaskMeter(folder, {"CUDA_VISIBLE_DEVICES": "1"}, driver)(one)
    assert given is not None
    assert (given.gpu_percent, given.gpu_memory_b) == (0.0, 2_000_000)
    (folder.task(one).job / "claim").write_bytes(encode_status(**(me | {"shim_start": "1"})))
    assert TaskMeter(folder, {}, driver)(one) is None  # another process has the shim's number


def test_what_was_recorded_is_read_back(home: Path, order) -> None:
    folder = Home(home)
    spool = DiskSpool(folder)
    folder.task(order()).make()
    for step in (10, 20):
        spool.record(order(), {"system/cpu": step / 2}, step)
    (stream,) = set(spool.ends(order())) - {"log"}
    found = frames.scan(spool.read(order(), stream, 0, 1 << 20)).frames
    assert [(block.steps[0], block.columns[0][0]) for block in found if isinstance(block, frames.Block)] == [
        (10, 5.0),
        (20, 10.0),
    ]


def _points(server: Server) -> dict[str, float]:
    """The last value of every metric."""
    found: dict[str, float] = {}
    for data in server.metrics.values():
        for block in frames.scan(bytes(data)).frames:
            if isinstance(block, frames.Block):
                found |= {key: column[-1] for key, column in zip(block.keys, block.columns, strict=True)}
    return found
