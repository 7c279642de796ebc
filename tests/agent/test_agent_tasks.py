"""Tasks on a real agent: real processes, real HTTP, a real disk."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from nexus.launch.model import Cause, Health, Port, TaskState
from tests.agent.conftest import agent_in_process
from tests.agent.server import Server, is_final, until

pytestmark = pytest.mark.anyio


async def test_a_script_runs_and_its_log_arrives(server: Server, home: Path, order) -> None:
    server.want(order("echo out; echo err >&2"))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_1"))
        report = server.reports["task_1"]
        assert (report.state, report.cause, report.exit_code) == (TaskState.SUCCEEDED, Cause.DONE, 0)
        assert server.text("task_1") == "out"
        assert server.text("task_1", "err") == "err"
        await until(lambda: not list((home / "tasks").iterdir()))
    assert [one.state for one in server.history["task_1"]][-1] == TaskState.SUCCEEDED


async def test_exit_codes_and_signals_are_told_faithfully(server: Server, home: Path, order) -> None:
    server.want(order("exit 75", "task_a"), order("kill -9 $$", "task_b"), order("kill -SEGV $$", "task_c"))
    server.want(order(task="task_d", argv=("no-such-program",)))
    async with agent_in_process(server, home):
        await until(lambda: all(is_final(server, task) for task in server.orders))
    a, b, c, d = (server.reports[task] for task in ("task_a", "task_b", "task_c", "task_d"))
    assert (a.state, a.cause, a.exit_code, a.detail) == (TaskState.FAILED, Cause.EXIT, 75, "exited with code 75")
    assert (b.cause, b.exit_code, b.signal, b.detail) == (Cause.SIGNAL, -9, 9, "killed by signal 9 (SIGKILL)")
    assert (c.cause, c.signal) == (Cause.SIGNAL, 11)
    assert (d.cause, d.exit_code) == (Cause.EXIT, 127)
    assert "no-such-program" in server.text("task_d", "nexus")


async def test_a_stop_reaches_every_child(server: Server, home: Path, order, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"""trap '' TERM
(trap '' TERM; sleep 300) & echo $! >> {pids}
setsid sleep 300 & echo $! >> {pids}
echo up
wait"""
    server.want(order(script, grace_s=0.3))
    async with agent_in_process(server, home):
        await until(lambda: "up" in server.text("task_1"))
        server.change("task_1", wanted="stop")
        await until(lambda: is_final(server, "task_1"))
    assert server.reports["task_1"].state == TaskState.STOPPED
    assert server.reports["task_1"].cause == Cause.STOPPED
    for pid in pids.read_text().split():
        assert not _is_alive(int(pid))


async def test_a_timeout_ends_the_whole_group(server: Server, home: Path, order, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    server.want(order(f"sleep 300 & echo $! > {pids}; wait", timeout_s=0.5))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_1"))
    report = server.reports["task_1"]
    assert (report.state, report.cause) == (TaskState.FAILED, Cause.TIMEOUT)
    assert "500 ms" in report.detail
    assert not _is_alive(int(pids.read_text()))


async def test_a_withdrawn_order_ends_the_task(server: Server, home: Path, order) -> None:
    server.want(order("echo up; sleep 300"))
    async with agent_in_process(server, home):
        await until(lambda: "up" in server.text("task_1"))
        server.withdraw("task_1")
        await until(lambda: is_final(server, "task_1"))
        await until(lambda: not list((home / "tasks").iterdir()))


async def test_a_gang_waits_for_its_go(server: Server, home: Path, order) -> None:
    server.want(order("echo port $NEXUS_PORT_HTTP $PORT", go=False, ports=(Port("http"),)))
    async with agent_in_process(server, home):
        await until(lambda: server.reports.get("task_1") and server.reports["task_1"].state == TaskState.READY)
        port = server.reports["task_1"].ports["http"]
        await asyncio.sleep(0.1)
        assert server.reports["task_1"].state == TaskState.READY
        server.change("task_1", go=True)
        await until(lambda: is_final(server, "task_1"))
    assert server.text("task_1") == f"port {port} {port}"


async def test_nothing_of_the_agent_leaks_into_a_task(
    server: Server, home: Path, order, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXUS_JOIN_TOKEN", "canary-7f3a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-7f3a")
    server.want(order("cat /proc/$PPID/environ; env; python -c 'import nexus; print(nexus.__version__)'"))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_1"))
    text = server.text("task_1")
    assert "canary-7f3a" not in text
    assert "NEXUS_TOKEN=***" in text, "it is there, and no reader of the log can use it"
    assert "NEXUS_RUN_ID=run_1" in text
    assert text.endswith("0.1.0")


async def test_an_order_that_is_not_wanted_never_starts(server: Server, home: Path, order, tmp_path: Path) -> None:
    server.want(order(f"touch {tmp_path}/started", wanted="stop"))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_1"))
    assert server.reports["task_1"].state == TaskState.STOPPED
    assert not (tmp_path / "started").exists()


async def test_a_task_that_listens_becomes_healthy(server: Server, home: Path, order) -> None:
    script = "sleep 0.2; exec python -m http.server --bind 127.0.0.1 $NEXUS_PORT_HTTP"
    server.want(order(script, ports=(Port("http"),), health=Health(path="/", every_s=0.1)))
    async with agent_in_process(server, home):
        await until(lambda: server.reports.get("task_1") and server.reports["task_1"].healthy)
        assert not server.history["task_1"][0].healthy
        server.change("task_1", wanted="stop")
        await until(lambda: is_final(server, "task_1"))
    assert not server.reports["task_1"].healthy


async def test_a_task_that_never_answers_fails_by_its_health(server: Server, home: Path, order) -> None:
    health = Health(path="/ready", every_s=0.05, timeout_s=0.3)
    server.want(order("sleep 300", ports=(Port("http"),), health=health))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_1"))
    report = server.reports["task_1"]
    assert (report.state, report.cause) == (TaskState.FAILED, Cause.HEALTH)
    assert "/ready" in report.detail


async def test_what_no_process_can_be_given_is_refused_with_words(server: Server, home: Path, order) -> None:
    server.want(order(task="task_a", argv=("echo", "a\0b")), order("true", "task_b", env={"BIG": "x" * 3_000_000}))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_a") and is_final(server, "task_b"))
    assert (server.reports["task_a"].cause, "NUL" in server.reports["task_a"].detail) == (Cause.SETUP, True)
    assert server.reports["task_b"].exit_code == 126
    assert "too long" in server.text("task_b", "nexus")


async def test_a_port_that_is_taken_is_said(server: Server, home: Path, order) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server.want(order("echo never", ports=(Port("http", port),)))
        async with agent_in_process(server, home):
            await until(lambda: is_final(server, "task_1"))
    report = server.reports["task_1"]
    assert (report.state, report.cause) == (TaskState.FAILED, Cause.SETUP)
    assert f"the port {port} (http) is taken" in report.detail


async def test_a_large_artifact_delays_no_log_line(server: Server, home: Path, order) -> None:
    """While an upload hangs, lines go on arriving."""
    script = """python - <<'END'
import nexus, time
open("model.bin", "wb").write(b"weights")
nexus.artifact("digits", "model.bin", kind="model")
for i in range(200):
    print(i, flush=True)
    time.sleep(0.01)
END
"""
    server.blob_gate.clear()
    server.want(order(script))
    async with agent_in_process(server, home):
        await until(lambda: server.blobs_waiting)
        seen = len(server.lines("task_1"))
        await until(lambda: len(server.lines("task_1")) > seen + 20)
        server.blob_gate.set()
        await until(lambda: is_final(server, "task_1"))
        await until(lambda: not list((home / "tasks").iterdir()))
    assert [report.name for report in server.artifacts["task_1"]] == ["digits"]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
