"""The sandbox for real: what a job in it sees, may write, and can do to others; and that nothing else changes."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from nexus.agent.adapters.home import Home
from nexus.agent.adapters.isolation.enclosure import Enclosure, as_shell
from nexus.agent.adapters.isolation.sandbox import find_sandbox, sandboxed
from nexus.agent.adapters.launcher import Program
from nexus.agent.wire import Membership, Options, Terms, membership, open_agent
from nexus.kernel.errors import MissingError, UsageError
from nexus.launch.model import Cause, Port, TaskState
from tests.agent.conftest import SRC, agent_in_process, agent_process
from tests.agent.phone import everything, phoned, sleepers, until_said
from tests.agent.server import TOKEN, Server, entered, is_final, until

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(not find_sandbox(), reason="bubblewrap does not work here")]


@pytest.fixture
def boxed(order):
    """Orders for a sandbox."""
    return lambda *words, **changes: order(*words, **({"isolation": "sandbox"} | changes))


async def test_visitors_are_inside_and_leave_with_their_caller(server: Server, home: Path, boxed) -> None:
    server.want(boxed("echo hi > here; echo up; exec sleep 300", env={"COLOUR": "it's green"}))
    async with phoned(server, home) as phone:
        script = f"cat here; echo $COLOUR $NEXUS_RUN_ID; ls {home}/node.json; exit 6"
        heard = await everything(phone.call("sh", "-c", script))
        assert (heard.out, heard.code) == (b"hi\nit's green run_1\n", 6)
        assert b"No such file" in heard.err, "the agent's folder is not in there"
        for tty in (False, True):
            wire = phone.call("sh", "-c", "trap '' HUP; test -t 0 && echo tty; echo here; sleep 272", tty=tty)
            assert (b"tty" in await until_said(wire, b"here")) is tty
            await until(lambda: sleepers("272"))
            await wire.close()
            await until(lambda: not sleepers("272"))
            await until(lambda: not phone.calls._running)


async def test_a_job_in_a_sandbox_works_as_any_other(server: Server, home: Path, boxed) -> None:
    """Log, metrics, artifacts, outputs, temporary files, a port: and it is told to be where it is."""
    script = """set -e
echo hi; echo err >&2
python - <<'END'
import nexus, os, tempfile, pathlib
nexus.log({"loss": 0.5})
pathlib.Path("model.bin").write_text("weights")
nexus.artifact("digits", "model.bin", kind="model")
pathlib.Path(os.environ["NEXUS_OUTPUTS"], "result.txt").write_text("42")
tempfile.NamedTemporaryFile(dir="/tmp").write(b"x")
pathlib.Path(os.environ["HOME"], "x").write_text("mine")
END
test "$NEXUS_PORT_HTTP" = "$PORT"
getent hosts localhost > /dev/null
"""
    server.want(boxed(script, ports=(Port("http"),)))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_1"))
        await until(lambda: not list((home / "tasks").iterdir()))
    report = server.reports["task_1"]
    assert (report.state, report.exit_code) == (TaskState.SUCCEEDED, 0), server.lines("task_1")
    assert (server.text("task_1"), server.text("task_1", "err")) == ("hi", "err")
    assert {one.name for one in server.artifacts["task_1"]} == {"digits", "outputs"}
    assert any(stream.startswith("m-") for _, stream in server.metrics)
    assert server.told is not None
    assert "sandbox" in server.told.isolation


async def test_codes_and_signals_are_told_as_without_a_sandbox(server: Server, home: Path, boxed) -> None:
    server.want(boxed("exit 75", "task_a"), boxed("kill -9 $$", "task_b"), boxed("kill -SEGV $$", "task_c"))
    server.want(boxed(task="task_d", argv=("no-such-program",)))
    async with agent_in_process(server, home):
        await until(lambda: all(is_final(server, task) for task in server.orders))
    a, b, c, d = (server.reports[task] for task in ("task_a", "task_b", "task_c", "task_d"))
    assert (a.cause, a.exit_code) == (Cause.EXIT, 75)
    assert (b.cause, b.exit_code, b.signal) == (Cause.SIGNAL, -9, 9)
    assert (c.cause, c.signal) == (Cause.SIGNAL, 11)
    assert (d.cause, d.exit_code) == (Cause.EXIT, 127)


async def test_what_is_not_the_jobs_is_not_there(server: Server, home: Path, boxed, tmp_path: Path) -> None:
    """Its node's token, its owner's keys, other tasks, what lies elsewhere; not by links, and not to write."""
    (tmp_path / "elsewhere").write_text("canary-elsewhere")
    paths = [home / "node.json", home / "tasks" / "task_2.1" / "work" / "secret", tmp_path / "elsewhere"]
    paths += [Path("/etc/shadow"), Path.home() / ".ssh", Path.home() / ".bashrc", Path("/var/lib"), Path("/run/lock")]
    script = f"""
for path in {" ".join(map(str, paths))}; do
  if cat "$path" 2>/dev/null || ls "$path" 2>/dev/null; then echo "READ $path"; fi
  if : 2>/dev/null > "$path"; then echo "WROTE $path"; fi
done
ln -s {tmp_path}/elsewhere link; cat link 2>/dev/null
touch /usr/x /x /root/x /etc/x 2>/dev/null && echo "WROTE /"
touch {home}/x 2>/dev/null || true
cat /proc/1/environ | tr '\\0' '\\n' | grep -v -e ^PATH= -e ^NEXUS_PLACE= && echo "READ environ"
echo done
"""
    Home(home).node.write_text(TOKEN)
    server.want(boxed("echo canary-secret > secret; echo up; sleep 300", "task_2", run="run_2"))
    async with agent_in_process(server, home):
        await until(lambda: "up" in server.text("task_2"))
        server.want(boxed(script))
        await until(lambda: is_final(server, "task_1"))
        server.change("task_2", wanted="stop")
        await until(lambda: is_final(server, "task_2"))
    text = server.text("task_1")
    assert text.endswith("done")
    assert "READ" not in text
    wrote = [line for line in text.splitlines() if line.startswith("WROTE")]
    assert not [line for line in wrote if not line.startswith("WROTE /tmp/")], text  # its own /tmp, which goes with it
    assert "canary" not in text
    assert TOKEN not in text
    assert not (home / "x").exists()
    assert (home / "node.json").read_text() == TOKEN
    assert (tmp_path / "elsewhere").read_text() == "canary-elsewhere"


async def test_nobody_elses_processes_are_there(server: Server, home: Path, boxed) -> None:
    """Neither to see nor to end: the agent, its shim, another task."""
    server.want(boxed("echo $$; sleep 300", "task_2"))
    script = f"""
ls /proc | grep -c '^[0-9]' > count
kill -9 {os.getpid()} 2>/dev/null && echo KILLED
kill -9 -1 2>/dev/null
echo "$(cat count) processes"
"""
    async with agent_in_process(server, home):
        await until(lambda: server.text("task_2"))
        server.want(boxed(script))
        await until(lambda: is_final(server, "task_1"))
        assert server.reports["task_2"].state == TaskState.RUNNING
        server.change("task_2", wanted="stop")
        await until(lambda: is_final(server, "task_2"))
    assert "KILLED" not in server.text("task_1")


async def test_a_library_that_a_job_loads_first_is_not_loaded_outside(
    server: Server, home: Path, boxed, tmp_path: Path
) -> None:
    """The program that makes the sandbox runs outside of it: none of the job's variables may reach that."""
    server.want(boxed("true", env={"LD_PRELOAD": "libcanary-7f3a.so"}))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_1"))
        complaints = server.text("task_1", "err").splitlines()
    assert complaints  # of the job's own programs, inside
    assert not [line for line in complaints if "bwrap" in line]


async def test_a_stop_leaves_time_to_end_well_and_reaches_all(server: Server, home: Path, boxed) -> None:
    script = f"""{sys.executable} -u -c "
import signal, sys, time
def end(*_):
    time.sleep(0.5); print('ending well'); sys.exit(0)
signal.signal(signal.SIGTERM, end)
print('up'); time.sleep(300)
" """
    stubborn = "trap '' TERM; (trap '' TERM; setsid sleep 300) & echo up; while :; do sleep 0.1; done"
    server.want(boxed(script, "task_a", grace_s=10.0), boxed(stubborn, "task_b", grace_s=0.3))
    async with agent_in_process(server, home):
        await until(lambda: all("up" in server.text(task) for task in server.orders))
        server.change("task_a", wanted="stop")
        server.change("task_b", wanted="stop")
        await until(lambda: all(is_final(server, task) for task in server.orders))
    assert "ending well" in server.text("task_a")
    assert {report.state for report in server.reports.values()} == {TaskState.STOPPED}
    assert not _processes_of(home)


async def test_a_killed_agent_finds_its_sandbox_again(server: Server, home: Path, boxed) -> None:
    server.want(boxed("for i in $(seq 60); do echo line $i; sleep 0.02; done"))
    async with agent_process(server, home) as agent:
        await until(lambda: len(server.lines("task_1")) > 5)
        agent.kill()
        await agent.wait()
    async with agent_process(server, home):
        await until(lambda: is_final(server, "task_1"))
    assert server.text("task_1").splitlines() == [f"line {i}" for i in range(1, 61)]
    assert server.reports["task_1"].state == TaskState.SUCCEEDED


async def test_a_setup_is_in_the_sandbox_too_and_its_environment_cannot_be_changed(
    server: Server, home: Path, boxed, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").write_text("canary-elsewhere")
    setup = f"cat {tmp_path}/elsewhere || true; echo made > $VIRTUAL_ENV/made"
    script = "cat $VIRTUAL_ENV/made; touch $VIRTUAL_ENV/x 2>/dev/null && echo WROTE; which python"
    server.want(boxed(script, setup=setup))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_1"), 30)
    text = server.text("task_1")
    assert server.reports["task_1"].state == TaskState.SUCCEEDED, server.lines("task_1")
    assert "canary" not in bytes(server.logs["task_1"]).decode()
    assert text.startswith("made\n")
    assert "WROTE" not in text
    assert str(home / "environments") in text


async def test_who_comes_in_is_where_the_task_is(server: Server, home: Path, boxed, tmp_path: Path) -> None:
    """Among its processes, with its variables, and with nothing else of the machine."""
    (tmp_path / "elsewhere").write_text("canary")
    server.want(boxed("echo mine > note; echo up; sleep 300", env={"WORD": "it's so"}))
    async with agent_in_process(server, home):
        await until(lambda: "up" in server.text("task_1"), 20)
        output = await entered(home, tmp_path / "elsewhere")
        server.change("task_1", wanted="stop")
        await until(lambda: is_final(server, "task_1"), 20)
    assert output == ["mine", "it's so", "no", "1"]


async def test_an_owner_may_keep_every_task_in_a_sandbox(server: Server, home: Path, order, tmp_path: Path) -> None:
    """And show it a folder."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.csv").write_text("1,2")
    (tmp_path / "elsewhere").write_text("canary")
    terms = Terms(sandbox=True, share=(str(tmp_path / "data"),))
    member = Membership(url=server.url, node="node_1", token=TOKEN, name="here", terms=terms)
    script = f"cat {tmp_path}/data/rows.csv; touch {tmp_path}/data/x || echo no; cat {tmp_path}/elsewhere || echo no"
    server.want(order(script))
    stop = asyncio.Event()
    async with open_agent(home, member, Options()) as agent:
        running = asyncio.ensure_future(agent.run(stop))
        await until(lambda: is_final(server, "task_1"))
        stop.set()
        await running
    assert server.text("task_1") == "1,2no\nno"
    assert server.told is not None
    assert "process" not in server.told.isolation


async def test_an_owner_says_so_when_joining(server: Server, home: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    words = ["--home", str(home), "--require-sandbox", "--share", str(tmp_path / "data")]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from nexus.app.cli import main; main()",
        *("agent", "join", server.url, "join-token", *words),
        env={**os.environ, "PYTHONPATH": str(SRC)},
    )
    assert await process.wait() == 0
    assert membership(home).terms == Terms(sandbox=True, share=(str(tmp_path / "data"),))
    assert server.joined is not None
    assert server.joined.info.isolation[0] == "sandbox"


async def test_a_node_without_a_sandbox_says_so(
    server: Server, home: Path, boxed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("nexus.agent.adapters.isolation.levels.find_sandbox", lambda _: "")
    server.want(boxed("echo never"))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_1"))
    report = server.reports["task_1"]
    assert (report.state, report.cause) == (TaskState.FAILED, Cause.SETUP)
    assert "bubblewrap" in report.detail
    assert server.told is not None
    assert "sandbox" not in server.told.isolation
    with pytest.raises(MissingError, match="must keep every task in a sandbox"):
        async with open_agent(home, Membership(url="http://x", node="n", token="t", terms=Terms(sandbox=True))):
            pass


async def test_the_agent_reads_nothing_for_a_job_that_the_job_may_not_read(
    server: Server, home: Path, boxed, tmp_path: Path
) -> None:
    """What it asks to keep lies in its own folders, with all links followed; its own it may keep."""
    (tmp_path / "elsewhere").write_text("canary")
    script = f"""mkdir kept; echo mine > kept/mine; ln -s {tmp_path}/elsewhere link; ln -s {tmp_path} folder
ask() {{ echo "{{\\"name\\": \\"$1\\", \\"path\\": \\"$2\\"}}" > $NEXUS_SPOOL/artifact-$1.json; }}
ask direct {tmp_path}/elsewhere; ask link $PWD/link
ask up ../../../../elsewhere; ask folder $PWD/folder; ask mine $PWD/kept/mine
ln -s {tmp_path}/elsewhere $NEXUS_SPOOL/artifact-json.json
ln -s {tmp_path}/elsewhere $NEXUS_OUTPUTS/out"""
    server.want(boxed(script))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_1"))
        await until(lambda: not list((home / "tasks").iterdir()))
    assert server.reports["task_1"].state == TaskState.SUCCEEDED, server.lines("task_1")
    assert "leads out" in server.reports["task_1"].detail
    assert {one.name for one in server.artifacts["task_1"]} == {"mine"}
    assert not [blob for blob in server.blobs.values() if b"canary" in blob]


@pytest.mark.skipif(not os.access("/opt", os.W_OK), reason="only root may install in /opt")
async def test_an_agents_folder_among_programs_is_not_there_either(server: Server, boxed) -> None:
    """With the server's folder around it."""
    with tempfile.TemporaryDirectory(dir="/opt") as place:
        home = Path(place, "nexus", "agent")
        Home(home).node.write_text(TOKEN)
        (home.parent / "server.lock").touch()
        (home.parent / "keys").write_text("canary")
        (home.parent.parent / "program").write_text("a program")
        words = f"cat {home}/node.json {home.parent}/keys\ntouch {home}/x {home.parent}/x\nls {home}"
        server.want(boxed(f"set +e\ncat {place}/program; echo\n{words}\necho done"))
        async with agent_in_process(server, home):
            await until(lambda: is_final(server, "task_1"))
    lines = server.text("task_1").splitlines()
    assert (lines[0], lines[-1]) == ("a program", "done")
    assert "node.json" not in lines
    assert not {TOKEN, "canary"} & set(lines)
    errors = [line.split(": ")[-1] for line in server.text("task_1", "err").splitlines()]
    assert errors == ["No such file or directory"] * 2 + ["Read-only file system"] * 2


def test_gpus_are_those_of_the_task(tmp_path: Path) -> None:
    enclosure = Enclosure(writable=(tmp_path,), readable=(), private=tmp_path / "private", gpus=(1, 3))
    program = Program(argv=("nvidia-smi",), env={"A": "it's"}, cwd=tmp_path)
    words = sandboxed("bwrap", tmp_path, program, enclosure).argv
    devices = [words[i + 1] for i, word in enumerate(words) if word == "--dev-bind-try"]
    assert devices[:2] == ["/dev/nvidia1", "/dev/nvidia3"]
    assert "/dev/nvidiactl" in devices
    without = sandboxed("bwrap", tmp_path, program, replace(enclosure, gpus=())).argv
    assert "--dev-bind-try" not in without
    assert not any("it's" in word for word in words)
    assert (tmp_path / "variables.sh").stat().st_mode & 0o777 == 0o600


def test_variables_are_what_a_shell_reads_as_they_were() -> None:
    assert as_shell({"A": "it's $HOME\n`x`"}) == "export A='it'\\''s $HOME\n`x`'\n"
    with pytest.raises(UsageError, match="a-b"):
        as_shell({"a-b": "1"})


def _processes_of(home: Path) -> list[str]:
    """Command lines that name the home: none of its jobs' is left."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if f"{home}/tasks" in words:
            found.append(words)
    return found
