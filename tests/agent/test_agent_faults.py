"""What may go wrong, with real processes: killed agents, killed shims, lost answers, silent servers, full disks."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from functools import partial
from pathlib import Path
from random import Random

import pytest

from nexus.agent.adapters.shim.formats import decode_status
from nexus.agent.wire import Membership, Options, open_agent
from nexus.kernel.errors import ConflictError, DeniedError
from nexus.launch.model import Cause, TaskState
from tests.agent.conftest import agent_in_process, agent_process
from tests.agent.server import TOKEN, Faults, Server, is_final, until

pytestmark = pytest.mark.anyio

COUNT = f"""{sys.executable} -c "
import time
for i in range(400):
    print('line', i, flush=True)
    time.sleep(0.003)
" """
EXPECTED = "\n".join(f"line {i}" for i in range(400))


async def test_a_killed_agent_finds_its_task_again(server: Server, home: Path, order, tmp_path: Path) -> None:
    server.want(order(f"echo start >> {tmp_path}/starts\n{COUNT}"))
    for lines in (50, 150, 250):
        async with agent_process(server, home) as agent:
            await until(partial(_has_more, server, lines))
            agent.kill()
            await agent.wait()
    async with agent_process(server, home):
        await until(lambda: is_final(server, "task_1"))
    assert server.reports["task_1"].state == TaskState.SUCCEEDED
    assert server.text("task_1") == EXPECTED
    assert (tmp_path / "starts").read_text() == "start\n"


async def test_a_task_that_ended_while_no_agent_lived_is_reported(server: Server, home: Path, order) -> None:
    server.want(order("echo up; sleep 0.5; echo down; exit 7"))
    async with agent_process(server, home) as agent:
        await until(lambda: "up" in server.text("task_1"))
        agent.kill()
        await agent.wait()
    await until(lambda: list((home / "tasks").glob("*/job/exit")))
    async with agent_process(server, home):
        await until(lambda: is_final(server, "task_1"))
    assert server.reports["task_1"].exit_code == 7
    assert server.text("task_1") == "up\ndown"


async def test_an_agent_killed_before_an_end_is_acknowledged_says_it_again(
    server: Server, home: Path, order, tmp_path: Path
) -> None:
    """And once it is, nothing of the task stays, its token least of all."""
    server.acknowledges = False
    server.want(order(f"echo start >> {tmp_path}/starts\n{COUNT}\nexit 5", secrets={"PASSWORD": "sesame"}))
    async with agent_process(server, home) as agent:
        await until(lambda: is_final(server, "task_1"))
        agent.kill()
        await agent.wait()
    server.reports.clear()
    server.acknowledges = True
    async with agent_process(server, home):
        await until(lambda: "task_1" in server.acknowledged)
        await until(lambda: not list((home / "tasks").iterdir()))
    assert server.reports["task_1"].exit_code == 5
    assert server.text("task_1") == EXPECTED
    assert (tmp_path / "starts").read_text() == "start\n"
    assert _files_with(home, TOKEN.encode()) == ["node.json"]
    assert _files_with(home, b"run-token") == _files_with(home, b"sesame") == []


async def test_a_flaky_network_loses_and_doubles_nothing(server: Server, home: Path, order) -> None:
    server.faults = Faults(Random(7), drop=0.15, fail=0.15, lose_ack=0.15)
    server.want(order(COUNT))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_1") and "task_1" in server.acknowledged, 30)
        assert server.text("task_1") == EXPECTED
        server.faults = Faults()
        await until(lambda: not list((home / "tasks").iterdir()))


async def test_a_server_that_is_away_for_a_while_gets_everything(server: Server, home: Path, order) -> None:
    server.want(order(COUNT))
    async with agent_in_process(server, home):
        await until(lambda: len(server.lines("task_1")) > 50)
        await server.stop()
        await asyncio.sleep(0.3)
        await server.start()
        await until(lambda: is_final(server, "task_1"), 30)
    assert server.text("task_1") == EXPECTED


async def test_a_lease_that_runs_out_ends_the_task_though_the_agent_is_dead(
    server: Server, home: Path, order, tmp_path: Path
) -> None:
    server.want(order(f"echo $$ > {tmp_path}/pid; echo up; sleep 300", lease_s=1.5, grace_s=0.2))
    async with agent_process(server, home) as agent:
        await until(lambda: "up" in server.text("task_1"))
        agent.kill()
        await agent.wait()
    await until(lambda: list((home / "tasks").glob("*/job/exit")), 5)
    assert not _exists(tmp_path / "pid")
    server.acknowledges = False
    async with agent_process(server, home):
        await until(lambda: is_final(server, "task_1"))
    assert server.reports["task_1"].cause == Cause.NODE_LOST


async def test_an_agent_without_a_server_fences_itself(server: Server, home: Path, order) -> None:
    server.want(order("echo up; sleep 300", lease_s=1.0, grace_s=0.2))
    server.heartbeat_s = 0.3
    async with agent_in_process(server, home) as agent:
        await until(lambda: "up" in server.text("task_1"))
        await asyncio.sleep(1.2)
        assert agent.tasks["task_1"].state == TaskState.RUNNING  # heartbeats keep the lease
        await server.stop()
        await until(lambda: agent.tasks["task_1"].ended, 5)
        assert agent.tasks["task_1"].cause == Cause.NODE_LOST
        await server.start()
        await until(lambda: is_final(server, "task_1"))


async def test_a_killed_shim_takes_its_job_with_it(server: Server, home: Path, order, tmp_path: Path) -> None:
    server.want(order(f"echo $$ > {tmp_path}/pid; echo up; sleep 300"))
    async with agent_in_process(server, home):
        await until(lambda: "up" in server.text("task_1"))
        status = decode_status((home / "tasks" / "task_1.1" / "job" / "claim").read_bytes())
        os.kill(int(status["shim"]), signal.SIGKILL)
        await until(lambda: is_final(server, "task_1"))
    report = server.reports["task_1"]
    assert (report.state, report.cause) == (TaskState.FAILED, Cause.INTERNAL)
    assert "shim was killed" in report.detail
    await until(lambda: not _exists(tmp_path / "pid"))


async def test_a_reused_process_number_is_not_taken_for_the_job(server: Server, home: Path, order) -> None:
    """The claim of a shim that is gone names a process that lives, and is another's: it must not be touched."""
    server.want(order("echo up; sleep 300"))
    bystander = await asyncio.create_subprocess_exec("sleep", "300", start_new_session=True)
    try:
        async with agent_in_process(server, home):
            await until(lambda: "up" in server.text("task_1"))
            claim = home / "tasks" / "task_1.1" / "job" / "claim"
            status = decode_status(claim.read_bytes())
            forged = claim.read_bytes().replace(b"job=" + status["job"].encode(), b"job=%d" % bystander.pid)
            os.kill(int(status["shim"]), signal.SIGKILL)
            claim.write_bytes(forged)
            await until(lambda: is_final(server, "task_1"))
        assert bystander.returncode is None
        os.kill(bystander.pid, 0)
    finally:
        bystander.kill()
        await bystander.wait()
        os.killpg(int(status["job"]), signal.SIGKILL)


async def test_a_restart_of_the_machine_loses_the_task_and_says_so(server: Server, home: Path, order) -> None:
    server.want(order("echo up; sleep 300"))
    async with agent_process(server, home) as agent:
        await until(lambda: "up" in server.text("task_1"))
        agent.kill()
        await agent.wait()
    job = home / "tasks" / "task_1.1" / "job"
    status = decode_status((job / "claim").read_bytes())
    os.kill(int(status["shim"]), signal.SIGKILL)
    os.killpg(int(status["job"]), signal.SIGKILL)
    spec = (job / "spec").read_bytes()
    (job / "spec").write_bytes(spec[: spec.index(b"boot\x001\x00") + 7] + b"another-boot\x00")
    async with agent_process(server, home):
        await until(lambda: is_final(server, "task_1"))
    report = server.reports["task_1"]
    assert (report.cause, report.detail) == (Cause.NODE_LOST, "the machine was restarted")


async def test_a_wrong_token_is_said_clearly_and_ends_the_agent(server: Server, home: Path) -> None:
    server.token = "another"
    member = Membership(url=server.url, node="n", token=TOKEN)
    with pytest.raises(DeniedError) as caught:
        async with open_agent(home, member) as agent:
            await asyncio.wait_for(agent.run(asyncio.Event()), 10)
    assert "refuses this node's token" in caught.value.message
    assert "nexus agent join" in caught.value.hint


async def test_a_revoked_agent_lets_its_tasks_go_on_to_the_end_of_their_leases(
    server: Server, home: Path, order
) -> None:
    server.want(order("echo up; sleep 300", lease_s=1.0, grace_s=0.2))
    async with agent_process(server, home) as agent:
        await until(lambda: "up" in server.text("task_1"))
        server.token = "another"
        assert await asyncio.wait_for(agent.wait(), 15) == DeniedError.exit_code


async def test_two_agents_cannot_share_a_home(server: Server, home: Path) -> None:
    async with agent_in_process(server, home):
        with pytest.raises(ConflictError):
            async with open_agent(home, Membership(url=server.url, node="n", token=TOKEN), Options()):
                pass


async def test_a_spammer_is_bounded_and_the_loss_is_said(server: Server, home: Path, order) -> None:
    """100 MB while the server is away: the spool keeps its bound, the job goes on, and the log says what is gone."""
    script = f"""{sys.executable} -c "
import sys
line = b'x' * 999 + b'\\n'
for i in range(100_000): sys.stdout.buffer.write(line)
" """
    server.want(order("echo up; sleep 0.3;" + script))
    async with agent_in_process(server, home):
        await until(lambda: "up" in server.text("task_1"))
        await server.stop()
        await until(lambda: list((home / "tasks").glob("*/job/exit")), 20)
        spooled = sum(file.stat().st_size for file in (home / "tasks" / "task_1.1" / "log").iterdir())
        await server.start()
        await until(lambda: is_final(server, "task_1"), 30)
    assert spooled < 65 * 1024 * 1024
    lines = server.lines("task_1")
    lost = sum(int(line.text.split()[1]) for line in lines if line.text.startswith("dropped "))
    kept = sum(len(line.text) + 1 for line in lines if line.stream == "out" and line.text.startswith("x"))
    assert lost > 0
    assert kept + lost == 100_000_000


async def test_binary_output_arrives_byte_by_byte(server: Server, home: Path, order, tmp_path: Path) -> None:
    blob = Random(5).randbytes(300_000)
    (tmp_path / "blob").write_bytes(blob)
    server.want(order(f"cat {tmp_path}/blob"))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_1"))
    raw = bytes(server.logs["task_1"]).split(b"\n")[:-1]
    joined = b"".join(line[16:] + (b"\n" if line[14:15] == b"o" else b"") for line in raw)
    assert joined.removesuffix(b"\n") == blob.removesuffix(b"\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")
async def test_a_full_disk_loses_log_not_the_job(server: Server, order, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = await asyncio.create_subprocess_exec("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk))
    if await mount.wait():
        pytest.skip("this machine mounts no tmpfs")
    filler = disk / "filler"
    try:
        script = f"""echo up; {sys.executable} -c "
import time, pathlib
while not pathlib.Path('{tmp_path}/full').exists(): time.sleep(0.01)
for i in range(200): print(f'lost? {{i}} ' + 'x' * 5000, flush=True)
pathlib.Path('{tmp_path}/written').touch()
while not pathlib.Path('{tmp_path}/room').exists(): time.sleep(0.01)
print('after', flush=True)
" """
        server.want(order(script))
        async with agent_in_process(server, disk / "home"):
            await until(lambda: "up" in server.text("task_1"))
            _fill(filler)
            (tmp_path / "full").touch()
            await until((tmp_path / "written").exists)
            await until(lambda: "disk full" in server.reports["task_1"].detail)
            filler.unlink()
            (tmp_path / "room").touch()
            await until(lambda: is_final(server, "task_1"))
        assert server.reports["task_1"].state == TaskState.SUCCEEDED
        text = server.text("task_1")
        lost = sum(int(line.text.split()[1]) for line in server.lines("task_1") if line.text.startswith("dropped "))
        assert text.endswith("after")
        assert lost > 0
        whole = sum(len(f"lost? {i} ") + 5001 for i in range(200)) + len("up\nafter\n")
        assert len(text) + 1 + lost == whole
    finally:
        await (await asyncio.create_subprocess_exec("umount", "-l", str(disk))).wait()


def _has_more(server: Server, lines: int) -> bool:
    return len(server.lines("task_1")) > lines


def _exists(pid_file: Path) -> bool:
    return Path(f"/proc/{pid_file.read_text().strip()}").exists()


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def _files_with(folder: Path, secret: bytes) -> list[str]:
    files = [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink() and "sdk" not in file.parts]
    return sorted(file.name for file in files if secret in file.read_bytes())
