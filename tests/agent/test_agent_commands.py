"""`nexus agent`: join, run, status, as a person calls them; and what a new agent finds of a killed one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from nexus.agent.adapters.shim.formats import decode_status
from tests.agent.conftest import SRC, agent_process
from tests.agent.server import Server, is_final, until

pytestmark = pytest.mark.anyio


async def nexus(*words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from nexus.app.cli import main; main()",
        *words,
        env={**os.environ, "PYTHONPATH": str(SRC)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def said(*words: str) -> tuple[int, str, str]:
    process = await nexus(*words)
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_join_run_status(server: Server, home: Path, order) -> None:
    where = ("--home", str(home))
    code, _, err = await said("agent", "status", *where)
    assert (code, "has not joined" in err, "nexus token join" in err) == (4, True, True)
    code, out, err = await said("agent", "join", server.url, "join-token", "--name", "box", "--label", "gpu=no", *where)
    assert code == 0, err
    assert out.startswith(f"box has joined {server.url} as node_1")
    assert (home / "node.json").stat().st_mode & 0o077 == 0
    agent = await nexus("agent", "run", *where)
    try:
        server.want(order("echo up; sleep 300", secrets={"KEY": "canary-7f3a"}))
        await until(lambda: "up" in server.text("task_1"), 20)
        code, out, _ = await said("--json", "agent", "status", *where)
        status = json.loads(out)
        assert (code, status["running"], status["name"]) == (0, True, "box")
        assert [task["state"] for task in status["tasks"]] == ["running"]
        assert "canary-7f3a" not in out
        server.change("task_1", wanted="stop")
        await until(lambda: is_final(server, "task_1"))
    finally:
        agent.terminate()
        await agent.communicate()
    assert agent.returncode == 0
    code, out, _ = await said("agent", "status", *where)
    assert "the agent is not running" in out


async def test_the_owner_says_what_no_probe_tells(server: Server, home: Path) -> None:
    terms = ("--price", "1.5", "--spot", "--region", "attic", "--network", "switch-2", "--home", str(home))
    code, _, err = await said("agent", "join", server.url, "join-token", *terms)
    assert code == 0, err
    assert server.joined is not None
    info = server.joined.info
    assert (info.price, info.spot, info.region, info.network) == (1.5, True, "attic", "switch-2")
    agent = await nexus("agent", "run", "--home", str(home))
    try:
        await until(lambda: server.told is not None, 20)
        assert server.told is not None
        assert (server.told.price, server.told.spot, server.told.region) == (1.5, True, "attic")
        code, _, err = await said("agent", "join", server.url, "join-token", "--home", str(home))
        assert (code, "another agent works in" in err) == (5, True)
    finally:
        agent.terminate()
        await agent.communicate()


async def test_the_agent_of_nexus_up_lives_in_its_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXUS_HOME", str(tmp_path))
    code, _, err = await said("agent", "status")
    assert (code, f"{tmp_path}/agent/node.json" in err) == (4, True)


async def test_a_wrong_join_token_is_denied(server: Server, home: Path) -> None:
    code, _, err = await said("agent", "join", server.url, "wrong", "--home", str(home))
    assert code == 3
    assert "token" in err
    assert not (home / "node.json").exists()


async def test_a_setup_of_a_killed_agent_is_begun_anew(server: Server, home: Path, order, tmp_path: Path) -> None:
    """The old set-up must be gone before the new one begins: both write into the same environment."""
    setup = f"echo $$ >> {tmp_path}/pids; echo began; test -e {tmp_path}/go || sleep 300"
    server.want(order("echo done", setup=setup))
    async with agent_process(server, home) as agent:
        await until(lambda: "began" in server.text("task_1", "nexus"), 20)
        agent.kill()
        await agent.wait()
    (tmp_path / "go").touch()
    async with agent_process(server, home):
        await until(lambda: is_final(server, "task_1"), 20)
    assert server.text("task_1") == "done"
    first, _ = (tmp_path / "pids").read_text().split()
    await until(lambda: not Path(f"/proc/{first}").exists())


async def test_a_record_that_cannot_be_read_ends_its_job_and_is_kept(server: Server, home: Path, order) -> None:
    server.want(order("echo up; sleep 300"))
    async with agent_process(server, home) as agent:
        await until(lambda: "up" in server.text("task_1"))
        agent.kill()
        await agent.wait()
    folder = home / "tasks" / "task_1.1"
    job = decode_status((folder / "job" / "claim").read_bytes())["job"]
    record = (folder / "task.json").read_bytes()
    (folder / "task.json").write_bytes(record[: len(record) // 2])
    server.withdraw("task_1")
    async with agent_process(server, home):
        await until(lambda: (folder / "job" / "exit").exists())
        await until(lambda: not Path(f"/proc/{job}").exists())
    assert (folder / "task.json.broken").exists()


async def test_a_stopped_machine_that_goes_on_has_lost_its_lease(server: Server, home: Path, order) -> None:
    """SIGSTOP of agent and shim for longer than the lease, as a suspended machine: the job does not go on."""
    server.want(order("echo up; sleep 300", lease_s=1.5, grace_s=0.2))
    async with agent_process(server, home) as agent:
        await until(lambda: "up" in server.text("task_1"))
        status = decode_status((home / "tasks" / "task_1.1" / "job" / "claim").read_bytes())
        for pid in (agent.pid, int(status["shim"])):
            os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(2.0)
        os.kill(int(status["shim"]), signal.SIGCONT)
        await until(lambda: not Path(f"/proc/{status['job']}").exists(), 5)
        agent.send_signal(signal.SIGCONT)
        await until(lambda: is_final(server, "task_1"))
    assert server.reports["task_1"].cause == "node_lost"
