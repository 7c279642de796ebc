"""Calls on a real agent: real processes, real terminals, real sockets; only the way to the server is in memory."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from nexus.agent.adapters.home import Home
from nexus.agent.adapters.inside import Inside
from nexus.agent.core.idleness import Idleness, looked
from nexus.kernel.errors import ConflictError, ForbiddenError, UnavailableError, UsageError
from nexus.launch.calls import CallKind, Part, message, opened, size_message
from nexus.launch.model import Port
from nexus.launch.protocol import CallOrder
from tests.agent.phone import Heard, everything, phoned, until_said
from tests.agent.server import Server, until
from tests.ports import free_port

pytestmark = pytest.mark.anyio
WAITING = "echo up; exec sleep 300"


def notes(home: Path) -> list[Path]:
    """Of visitors that are there."""
    return list(home.glob("tasks/*/visitors/*"))


async def test_a_command_finds_what_the_tasks_own_process_finds(server: Server, home: Path, order) -> None:
    wanted = order("echo mine > here.txt; " + WAITING, env={"COLOUR": "green"}, secrets={"HF_TOKEN": "hf_1"})
    server.want(wanted)
    async with phoned(server, home) as phone:
        script = "cat here.txt; echo $COLOUR $HF_TOKEN $NEXUS_RUN_ID $NEXUS_TOKEN; echo trouble >&2; exit 7"
        heard = await everything(phone.call("sh", "-c", script))
        assert heard == Heard(out=b"mine\ngreen hf_1 run_1 run-token\n", err=b"trouble\n", code=7)
        assert (await everything(phone.call("sh", "-c", "kill -SEGV $$"))).code == -signal.SIGSEGV
        missing = await everything(phone.call("no-such-program", "x"))
        assert missing.code == 127
        assert b"no-such-program" in missing.err
        words = ("printf", "%s|", "a b", "$(id)", "'; exit 1", "*")
        assert (await everything(phone.call(*words))).out == b"a b|$(id)|'; exit 1|*|", "no shell reads them"


async def test_standard_input_and_its_end(server: Server, home: Path, order) -> None:
    server.want(order(WAITING))
    async with phoned(server, home) as phone:
        wire = phone.call("sh", "-c", "wc -c; echo done")
        for _ in range(40):
            await wire.send(message(Part.IN, b"x" * 65536))
        await wire.send(message(Part.IN_END))
        assert (await everything(wire)).out.split() == [str(40 * 65536).encode(), b"done"]
        early = phone.call("head", "-c", "1")  # it ends long before its input does
        await early.send(message(Part.IN, b"y" * 65536))
        assert (await everything(early)) == Heard(out=b"y", code=0)


async def test_a_caller_that_reads_slowly_loses_nothing(server: Server, home: Path, order) -> None:
    server.want(order(WAITING))
    async with phoned(server, home) as phone:
        wire = phone.call("sh", "-c", "head -c 5000000 /dev/zero; echo end")
        await asyncio.sleep(0.2)
        assert wire.sent == 0, "the count is of what goes the other way"
        heard = await everything(wire)
        assert (len(heard.out), heard.out[-4:], heard.code) == (5_000_004, b"end\n", 0)


def waiting_for(name: str) -> tuple[str, ...]:
    """A program that says what it knows of its terminal, before a signal and after. No shell waits without a race."""
    return (
        "python3",
        "-c",
        (
            f"import os, signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.{name}]);"
            "say = lambda: print(os.environ['TERM'], *os.get_terminal_size(0), flush=True);"
            f"say(); signal.sigwait([signal.{name}]); say(); raise SystemExit(5)"
        ),
    )


async def test_a_terminal_of_its_own(server: Server, home: Path, order) -> None:
    server.want(order(WAITING))
    async with phoned(server, home) as phone:
        program = waiting_for("SIGWINCH")
        wire = phone.call(*program, tty=True, rows=33, columns=111, term="xterm-256color")
        assert await until_said(wire, b"\n") == b"xterm-256color 111 33\r\n"
        await wire.send(size_message(40, 120))
        assert await everything(wire) == Heard(out=b"xterm-256color 120 40\r\n", code=5)


async def test_keys_that_mean_signals(server: Server, home: Path, order) -> None:
    server.want(order(WAITING))
    async with phoned(server, home) as phone:
        wire = phone.call(*waiting_for("SIGINT"), tty=True)
        assert await until_said(wire, b"\n") == b"dumb 80 24\r\n"
        await wire.send(message(Part.IN, b"\x03"))
        heard = await everything(wire)
        assert (heard.out, heard.code) == (b"^Cdumb 80 24\r\n", 5)
        plain = phone.call("sh", "-c", "echo ready; exec sleep 60")
        await until_said(plain, b"ready")
        await plain.send(message(Part.SIGNAL, bytes((signal.SIGINT,))))
        assert (await everything(plain)).code == -signal.SIGINT


@pytest.mark.parametrize("tty", [False, True], ids=["pipes", "terminal"])
async def test_a_caller_who_goes_leaves_nothing_behind(
    server: Server, home: Path, order, tmp_path: Path, tty: bool
) -> None:
    server.want(order(WAITING))
    async with phoned(server, home) as phone:
        script = f"trap 'echo hup > {tmp_path}/hup; exit' HUP; sleep 300 & echo $$ $!; wait"
        polite = phone.call("sh", "-c", script, tty=tty)
        pids = [int(word) for word in (await until_said(polite, b"\n")).split()]
        deaf = phone.call("sh", "-c", "trap '' HUP; sleep 300 & echo $$ $!; wait", tty=tty)
        pids += [int(word) for word in (await until_said(deaf, b"\n")).split()]
        assert all(is_alive(pid) for pid in pids)
        await polite.close()
        await deaf.close()
        await until(lambda: not any(is_alive(pid) for pid in pids))
        assert (tmp_path / "hup").read_text() == "hup\n"
        await until(lambda: not phone.calls._running)
        assert not notes(home)


async def test_what_a_command_left_running_goes_with_the_task(server: Server, home: Path, order) -> None:
    server.want(order(WAITING))
    async with phoned(server, home) as phone:
        heard = await everything(phone.call("sh", "-c", "setsid sleep 300 >/dev/null 2>&1 & echo $!"))
        (pid,) = map(int, heard.out.split())
        assert heard.code == 0
        assert is_alive(pid), "as with ssh: nohup is meant"
        staying = phone.call("sh", "-c", "echo here; sleep 300")
        await until_said(staying, b"here")
        server.change("task_1", wanted="stop")
        heard = await everything(staying)
        assert isinstance(heard.error, ConflictError)
        assert "the task has ended" in heard.error.message
        await until(lambda: not is_alive(pid))


async def test_an_output_that_a_child_holds_open_does_not_hold_the_call(server: Server, home: Path, order) -> None:
    server.want(order(WAITING))
    async with phoned(server, home) as phone:
        heard = await everything(phone.call("sh", "-c", "echo said; sleep 300 &"))
        assert heard == Heard(out=b"said\n", code=0)


async def test_whom_an_agent_does_not_let_in(server: Server, home: Path, order) -> None:
    server.want(order(WAITING))
    async with phoned(server, home) as phone:
        for wire in (phone.call("true", task="task_2"), phone.call("true", epoch=2)):
            error = (await everything(wire)).error
            assert isinstance(error, ConflictError)
            assert "does not run on this node" in error.message
        assert isinstance((await everything(phone.call("id", task=""))).error, ForbiddenError)
        phone.calls._shell = True  # as after `nexus agent join --allow-shell`
        heard = await everything(phone.call("sh", "-c", "echo ${NEXUS_TOKEN:-none}; pwd", task=""))
        assert heard.out.decode().split() == ["none", os.environ["HOME"]]
        nonsense = phone.call("cat")
        await nonsense.send(b"\xff??")
        assert isinstance((await everything(nonsense)).error, UsageError)


async def test_a_call_is_served_once_and_dialled_until_somebody_is_there(server: Server, home: Path, order) -> None:
    server.want(order(WAITING))
    async with phoned(server, home) as phone:
        phone.busy = 2
        wire = phone.call("echo", "hello")
        phone.calls.follow([CallOrder(id="call_0", kind=CallKind.EXEC, task="task_1")], phone.agent._task)
        assert (await everything(wire)).out == b"hello\n"
        assert phone.dialled == ["call_0"] * 3
        gone = CallOrder(id="call_gone", kind=CallKind.EXEC, task="task_1", epoch=1, argv=("true",))
        phone.calls.follow([gone], phone.agent._task)
        await until(lambda: not phone.calls._running)
        assert phone.dialled[-1:] == ["call_gone"], "nobody waits there any more: no second try"


ECHO = """
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("up", flush=True)
while True:
    peer, _ = server.accept()
    data = b""
    while part := peer.recv(65536):
        data += part
        if part == b"reset":
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, (1).to_bytes(4, "little") + bytes(4))
            break
    else:
        peer.sendall(b"got %d" % len(data))
    peer.close()
"""


async def test_a_port_with_each_direction_ending_by_itself(server: Server, home: Path, order) -> None:
    number = free_port()
    server.want(order(argv=("python3", "-c", ECHO, str(number)), ports=(Port("http", number),)))
    async with phoned(server, home) as phone:
        wires = [phone.call(port=number) for _ in range(5)]
        for wire in wires:
            await wire.send(message(Part.IN, b"x" * 1000))
            await wire.send(message(Part.IN_END))
        for wire in wires:
            said = [opened(one) for one in [await wire.receive(), await wire.receive()] if one]
            assert said == [(Part.OUT, b"got 1000"), (Part.OUT_END, b"")]
            assert await wire.receive() is None
        reset = phone.call(port=number)
        await reset.send(message(Part.IN, b"reset"))
        error = (await everything(reset)).error
        assert isinstance(error, UnavailableError)
        assert "cut the connection" in error.message
        nobody = (await everything(phone.call(port=free_port()))).error
        assert isinstance(nobody, ConflictError)
        assert "nothing listens on port" in nobody.message


async def test_visitors_of_a_killed_agent_are_ended_by_the_next(server: Server, home: Path, order) -> None:
    server.want(order(WAITING))
    async with phoned(server, home) as phone:
        task = phone.agent.tasks["task_1"].order
        order_ = CallOrder(id="call_x", kind=CallKind.EXEC, task="task_1", argv=("sleep", "300"))
        process = await Inside(Home(home)).start(order_, task)
        pid = process._process.pid
        (note,) = notes(home)
        assert note.name == str(pid)
        note.with_name(str(os.getpid())).write_text("12345")  # a number that is another's by now
        Inside(Home(home)).sweep()
        assert await process.wait() == -signal.SIGKILL
        assert not notes(home)
        await process.hang_up()


async def test_a_task_is_idle_until_somebody_is_inside_or_it_works(server: Server, home: Path, order) -> None:
    server.want(order(WAITING, idle_stop_s=0.5))
    async with phoned(server, home) as phone:
        await until(lambda: server.reports["task_1"].idle)
        wire = phone.call("cat")
        await until(lambda: not server.reports["task_1"].idle)
        await asyncio.sleep(0.7)
        assert not server.reports["task_1"].idle, "somebody is inside, though nothing is said"
        await wire.close()
        await until(lambda: server.reports["task_1"].idle)


async def test_a_task_that_works_is_not_idle(server: Server, home: Path, order) -> None:
    work = "for n in 1 2 3 4 5 6 7 8; do head -c 30000000 /dev/zero | md5sum >/dev/null; done"
    script = f"echo up; {work}; echo rests; sleep 300"
    server.want(order(script, idle_stop_s=0.4))
    async with phoned(server, home):
        await until(lambda: server.reports["task_1"].idle or "rests" in server.text("task_1"), 30)
        assert "rests" in server.text("task_1"), "children that ended count as well"
        await until(lambda: server.reports["task_1"].idle)


def test_idleness_is_counted_from_the_last_sign_of_life() -> None:
    seen = looked(None, 10.0, None, 100.0)
    assert seen == Idleness(since=100.0, at=100.0, cpu_s=10.0)
    seen = looked(seen, 10.4, None, 110.0)
    assert seen.since == 100.0, "4 % of a core is nothing"
    assert looked(seen, 12.0, None, 120.0).since == 120.0
    assert looked(seen, 10.4, 115.0, 120.0).since == 115.0, "somebody was inside"
    assert looked(seen, 10.4, 90.0, 120.0).since == 100.0
    assert looked(seen, None, None, 120.0).since == 120.0, "who cannot know stops nothing"
    assert looked(replace(seen, cpu_s=50.0), 1.0, None, 120.0).since == 100.0


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
