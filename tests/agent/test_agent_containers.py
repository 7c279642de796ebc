"""Containers for real, by the engine of this machine, on images that are made here: no registry is asked."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from nexus.agent.adapters.isolation.containers import as_lines, full_name, layer_name
from nexus.agent.adapters.isolation.enclosure import Enclosure
from nexus.agent.adapters.isolation.engine import Engine, client_variables, find_engine, known_engine
from nexus.agent.adapters.probe import boot_id
from nexus.agent.adapters.shim.formats import decode_status
from nexus.kernel.errors import UsageError
from nexus.launch.model import Cause, Health, Port, TaskState
from nexus.launch.protocol import TaskOrder
from tests.agent.conftest import agent_in_process, agent_process
from tests.agent.image import BARE, IMAGE, make_images
from tests.agent.phone import everything, phoned, sleepers, until_said
from tests.agent.server import Server, entered, is_final, until

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def engine() -> Engine:
    cache = Path.home() / ".cache" / "nexus" / "containers.json"
    known, found = known_engine(cache, boot_id())
    engine = found if known else find_engine(cache, boot_id(), os.environ)
    if engine is None:
        pytest.skip("no container engine works here")
    make_images(engine, client_variables(os.environ))
    return engine


@pytest.fixture
def contained(engine: Engine, order: Callable[..., TaskOrder]) -> Callable[..., TaskOrder]:
    """Orders for a container."""
    return lambda *words, **changes: order(*words, **({"image": IMAGE, "isolation": "container"} | changes))


def running(engine: Engine, home: Path) -> set[str]:
    """The names of all containers of an agent, ended ones too."""
    ours = "label=nexus.home=" + hashlib.sha256(str(home).encode()).hexdigest()[:16]
    return set(asked(engine, "ps", "--all", "--filter", ours, "--format", "{{.Names}}").split())


def asked(engine: Engine, *words: str) -> str:
    """What one of the engine's commands answers."""
    env = client_variables(os.environ)
    return subprocess.run([*engine.argv, *words], env=env, capture_output=True, text=True, check=True).stdout


async def test_a_job_in_a_container_works_as_any_other(server: Server, home: Path, contained) -> None:
    """It has its image's programs, its own folders, the SDK without an installation, and its variables as they were."""
    script = """set -e
echo hi; echo err >&2
cat note.txt 2>/dev/null || true
ls /usr/bin | grep -c . > /dev/null
! ls /opt /home 2>/dev/null
python3 - <<'END'
import nexus, os, pathlib
nexus.log({"loss": 0.5})
pathlib.Path("model.bin").write_text("weights")
nexus.artifact("digits", "model.bin", kind="model")
pathlib.Path(os.environ["NEXUS_OUTPUTS"], "result.txt").write_text("42")
assert os.environ["KEY"] == "line one\\n'two' \\"$HOME\\"", os.environ["KEY"]
END
test "$NEXUS_PORT_HTTP" = "$PORT"
"""
    key = "line one\n'two' \"$HOME\""
    server.want(contained(script, ports=(Port("http"),), secrets={"KEY": key}))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_1"), 20)
        await until(lambda: not list((home / "tasks").iterdir()))
        report = server.reports["task_1"]
        assert (report.state, report.exit_code) == (TaskState.SUCCEEDED, 0), server.lines("task_1")
        assert server.told is not None
        assert "container" in server.told.isolation
    assert (server.text("task_1"), server.text("task_1", "err").splitlines()[0]) == ("hi", "err")
    assert {one.name for one in server.artifacts["task_1"]} == {"digits", "outputs"}
    assert any(stream.startswith("m-") for _, stream in server.metrics)


async def test_codes_and_signals_are_told_as_without_a_container(server: Server, home: Path, contained) -> None:
    server.want(contained("exit 75", "task_a"), contained("kill -9 $$", "task_b"))
    server.want(contained(task="task_c", argv=("no-such-program",)))
    async with agent_in_process(server, home):
        await until(lambda: all(is_final(server, task) for task in server.orders), 20)
    a, b, c = (server.reports[task] for task in ("task_a", "task_b", "task_c"))
    assert (a.cause, a.exit_code) == (Cause.EXIT, 75)
    assert (b.cause, b.exit_code, b.signal) == (Cause.SIGNAL, -9, 9)
    assert (c.cause, c.exit_code) == (Cause.EXIT, 127)


async def test_secrets_are_in_no_arguments_and_not_with_the_engines_program(
    server: Server, home: Path, contained
) -> None:
    server.want(contained("echo up; sleep 300", secrets={"KEY": "canary-9d1e"}, env={"LD_PRELOAD": "canary-9d1e"}))
    async with agent_in_process(server, home):
        await until(lambda: "up" in server.text("task_1"), 20)
        status = decode_status((home / "tasks" / "task_1.1" / "job" / "claim").read_bytes())
        client = Path("/proc", status["job"])
        assert b"canary-9d1e" not in (client / "cmdline").read_bytes() + (client / "environ").read_bytes()
        server.change("task_1", wanted="stop")
        await until(lambda: is_final(server, "task_1"), 20)


async def test_a_stop_reaches_every_process_and_leaves_time_to_end_well(
    server: Server, home: Path, contained, engine: Engine
) -> None:
    script = """python3 -u -c "
import signal, sys, time
def end(*_):
    time.sleep(0.5); print('ending well'); sys.exit(0)
signal.signal(signal.SIGTERM, end)
print('up'); time.sleep(300)
"
"""
    stubborn = "trap '' TERM; (trap '' TERM; sleep 300) & echo up; while :; do sleep 0.1; done"
    server.want(contained(script, "task_a", grace_s=10.0), contained(stubborn, "task_b", grace_s=0.3))
    async with agent_in_process(server, home):
        await until(lambda: all("up" in server.text(task) for task in server.orders), 20)
        server.change("task_a", wanted="stop")
        server.change("task_b", wanted="stop")
        await until(lambda: all(is_final(server, task) for task in server.orders), 20)
    assert "ending well" in server.text("task_a")
    assert {report.state for report in server.reports.values()} == {TaskState.STOPPED}
    assert not running(engine, home)


async def test_timeouts_and_leases_hold_for_containers(server: Server, home: Path, contained, engine: Engine) -> None:
    """Though no agent lives: no container outlives its lease."""
    server.want(contained("echo up; sleep 300", "task_a", timeout_s=1.0))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_a"), 20)
    assert server.reports["task_a"].cause == Cause.TIMEOUT
    server.want(contained("echo up; sleep 300", "task_b", lease_s=2.0, grace_s=0.2))
    async with agent_process(server, home) as agent:
        await until(lambda: "up" in server.text("task_b"), 20)
        agent.kill()
        await agent.wait()
    await until(lambda: (home / "tasks" / "task_b.1" / "job" / "exit").exists(), 15)
    assert not running(engine, home)


async def test_a_killed_agent_finds_its_container_again(server: Server, home: Path, contained) -> None:
    server.want(contained("for i in $(seq 60); do echo line $i; sleep 0.05; done; exit 3"))
    async with agent_process(server, home) as agent:
        await until(lambda: len(server.lines("task_1")) > 5, 20)
        agent.kill()
        await agent.wait()
    async with agent_process(server, home):
        await until(lambda: is_final(server, "task_1"), 20)
    assert server.text("task_1").splitlines() == [f"line {i}" for i in range(1, 61)]
    assert server.reports["task_1"].exit_code == 3


async def test_a_killed_shim_takes_its_container_with_it(server: Server, home: Path, contained, engine: Engine) -> None:
    server.want(contained("echo up; sleep 300"))
    async with agent_in_process(server, home):
        await until(lambda: "up" in server.text("task_1"), 20)
        status = decode_status((home / "tasks" / "task_1.1" / "job" / "claim").read_bytes())
        os.kill(int(status["shim"]), signal.SIGKILL)
        await until(lambda: is_final(server, "task_1"), 20)
        assert "shim was killed" in server.reports["task_1"].detail
        await until(lambda: not running(engine, home), 20)


async def test_what_all_left_behind_is_swept(server: Server, home: Path, contained, engine: Engine) -> None:
    """Agent, shim and the engine's program are killed at once, and the task's record is gone."""
    server.want(contained("echo up; sleep 300"))
    async with agent_process(server, home) as agent:
        await until(lambda: "up" in server.text("task_1"), 20)
        status = decode_status((home / "tasks" / "task_1.1" / "job" / "claim").read_bytes())
        agent.kill()
        await agent.wait()
        for name in ("shim", "job"):
            os.kill(int(status[name]), signal.SIGKILL)
    (home / "tasks" / "task_1.1" / "task.json").unlink()
    assert running(engine, home)
    server.acknowledged.add("task_1")
    async with agent_process(server, home):
        await until(lambda: not running(engine, home), 20)


async def test_who_comes_in_is_where_the_task_is(server: Server, home: Path, contained, tmp_path: Path) -> None:
    """Among its processes, with its variables, and with nothing else of the machine."""
    (tmp_path / "elsewhere").write_text("canary")
    server.want(contained("echo mine > note; echo up; sleep 300", env={"WORD": "it's so"}))
    async with agent_in_process(server, home):
        await until(lambda: "up" in server.text("task_1"), 20)
        output = await entered(home, tmp_path / "elsewhere")
        server.change("task_1", wanted="stop")
        await until(lambda: is_final(server, "task_1"), 20)
    assert output == ["mine", "it's so", "no", "1"]


async def test_memory_is_held_by_the_engine(server: Server, home: Path, contained, engine: Engine) -> None:
    if not engine.limits:
        pytest.skip("this engine holds no container to its memory")
    eat = f"python3 -c \"x = [bytearray(b'x' * 10 * {MIB}) for _ in range(60)]; print(len(x))\""
    server.want(contained(eat, memory_b=100 * MIB))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_1"), 20)
    report = server.reports["task_1"]
    assert (report.state, report.cause) == (TaskState.FAILED, Cause.MEMORY), report


async def test_a_setup_is_done_once_for_an_image(server: Server, home: Path, contained, engine: Engine) -> None:
    """What it installs outside of the workspace is there in every task; its secrets are not kept with it."""
    nonce = home.parent.name
    setup = f"echo made {nonce} > /made; echo setting up"
    secrets = {"KEY": "canary-41ac"}
    server.want(contained("cat /made", "task_a", setup=setup, secrets=secrets))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_a"), 30)
        server.want(contained("cat /made", "task_b", setup=setup, secrets=secrets))
        await until(lambda: is_final(server, "task_b"), 20)
    assert server.text("task_a") == server.text("task_b") == f"made {nonce}", server.lines("task_a")
    assert "setting up" in server.text("task_a", "nexus")
    assert "setting up" not in server.text("task_b", "nexus")
    layers = asked(engine, "images", "--filter", "label=nexus.home", "--format", "{{.Id}}").split()
    assert "canary-41ac" not in asked(engine, "image", "inspect", *layers)
    asked(engine, "rmi", "--force", *layers)
    assert not running(engine, home)


async def test_a_setup_that_fails_says_why_and_leaves_nothing(
    server: Server, home: Path, contained, engine: Engine
) -> None:
    server.want(contained("echo never", setup="echo no such thing; exit 9"))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_1"), 20)
    report = server.reports["task_1"]
    assert (report.state, report.cause) == (TaskState.FAILED, Cause.SETUP)
    assert "exited with code 9" in report.detail
    assert "no such thing" in report.detail
    assert not running(engine, home)


async def test_an_image_that_cannot_be_pulled_is_said(server: Server, home: Path, contained) -> None:
    server.want(contained("echo never", image="localhost:9/nothing/there:1"))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_1"), 40)
    report = server.reports["task_1"]
    assert (report.state, report.cause) == (TaskState.FAILED, Cause.SETUP)
    assert "the image localhost:9/nothing/there:1 could not be pulled" in report.detail
    assert "connection refused" in report.detail
    assert [one.detail for one in server.history["task_1"]].count("pulling the image localhost:9/nothing/there:1") == 1


async def test_an_image_without_a_shell_runs_its_program_and_no_script(server: Server, home: Path, contained) -> None:
    server.want(contained(task="task_a", argv=("/bin/env",), image=BARE, env={"WORD": "it's so"}))
    server.want(contained("echo never", "task_b", image=BARE))
    async with agent_in_process(server, home):
        await until(lambda: all(is_final(server, task) for task in server.orders), 20)
    assert "WORD=it's so" in server.text("task_a").splitlines()
    assert server.reports["task_b"].cause == Cause.SETUP
    assert "has no shell" in server.reports["task_b"].detail


async def test_a_container_that_listens_becomes_healthy(server: Server, home: Path, contained) -> None:
    script = "exec python3 -m http.server --bind 127.0.0.1 $NEXUS_PORT_HTTP"
    server.want(contained(script, ports=(Port("http"),), health=Health(path="/", every_s=0.1)))
    async with agent_in_process(server, home):
        await until(lambda: server.reports.get("task_1") and server.reports["task_1"].healthy, 20)
        server.change("task_1", wanted="stop")
        await until(lambda: is_final(server, "task_1"), 20)


async def test_visitors_are_inside_and_leave_with_their_caller(server: Server, home: Path, contained) -> None:
    server.want(contained("echo hi > here; echo up; exec sleep 300", env={"COLOUR": "it's green"}))
    async with phoned(server, home) as phone:
        script = (
            "cat here; echo $COLOUR $NEXUS_RUN_ID; test -f /run/.containerenv || test -f /.dockerenv || exit 1; exit 6"
        )
        heard = await everything(phone.call("sh", "-c", script))
        assert (heard.out, heard.code) == (b"hi\nit's green run_1\n", 6), heard
        for tty in (False, True):
            wire = phone.call("sh", "-c", "trap '' HUP; test -t 0 && echo tty; echo here; sleep 271", tty=tty)
            assert (b"tty" in await until_said(wire, b"here")) is tty
            await until(lambda: sleepers("271"))
            await wire.close()
            await until(lambda: not sleepers("271"))
            await until(lambda: not phone.calls._running)


async def test_what_works_is_found_out_once_and_failures_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    cache = tmp_path / "cache" / "containers.json"
    assert known_engine(cache, "boot") == (False, None)
    assert find_engine(cache, "boot", os.environ) == engine
    assert known_engine(cache, "boot") == (True, engine)
    assert known_engine(cache, "another boot") == (False, None)
    broken = tmp_path / "podman"
    broken.write_text("#!/bin/sh\nexit 125\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/nowhere")
    assert known_engine(cache, "boot") == (False, None)  # another program
    assert find_engine(cache, "boot", os.environ) is None
    assert known_engine(cache, "boot") == (True, None)
    os.utime(cache, (1e9, 1e9))
    assert known_engine(cache, "boot") == (False, None)
    cache.write_bytes(b"{")
    assert known_engine(cache, "boot") == (False, None)


def test_words_for_an_engine(tmp_path: Path) -> None:
    enclosure = Enclosure(
        writable=(tmp_path,), readable=(), private=tmp_path, gpus=(0, 2), cpu=1.5, memory_b=2 * 1024 * MIB
    )
    words = partial(Engine.run, name="x", image="y", enclosure=enclosure, cwd=tmp_path, labels={})
    podman = " ".join(words(Engine(argv=("podman",))))
    docker = " ".join(words(Engine(argv=("docker",))))
    weak = " ".join(words(Engine(argv=("podman",), limits=False)))
    assert "--device nvidia.com/gpu=0 --device nvidia.com/gpu=2" in podman
    assert '--gpus "device=0,2"' in docker
    assert f"--user {os.getuid()}:{os.getgid()}" in docker
    assert "--memory 2147483648 --memory-swap 2147483648 --cpu-shares 1536" in podman
    assert "--memory" not in weak
    assert "--cgroups=disabled" in weak


def test_names_of_images() -> None:
    assert full_name("busybox:1") == "docker.io/library/busybox:1"
    assert full_name("vllm/vllm-openai") == "docker.io/vllm/vllm-openai"
    assert full_name("ghcr.io/x/y") == "ghcr.io/x/y"
    assert full_name("localhost:5000/x") == "localhost:5000/x"
    names = {
        layer_name("a", "s", {}),
        layer_name("b", "s", {}),
        layer_name("a", "t", {}),
        layer_name("a", "s", {"f": b""}),
    }
    assert len(names) == 4


def test_variables_of_an_image_without_a_shell() -> None:
    assert as_lines({"A": "x y", "B": '["1"]'}) == 'A=x y\nB=["1"]\n'
    for value in ("two\nlines", "'quoted'"):
        with pytest.raises(UsageError, match="SECRET"):
            as_lines({"SECRET": value})


async def test_a_container_that_works_is_not_idle(server: Server, home: Path, contained) -> None:
    work = "n=0; while test $n -lt 400000; do n=$((n+1)); done"
    server.want(contained(f"echo up; {work}; echo rests; sleep 300", idle_stop_s=0.4))
    async with phoned(server, home):
        await until(lambda: server.reports["task_1"].idle or "rests" in server.text("task_1"), 30)
        assert "rests" in server.text("task_1")
        await until(lambda: server.reports["task_1"].idle)
