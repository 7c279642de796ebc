"""Into a running task from outside, as people do it: exec, ssh and port-forward through a real server and agent."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pty
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.house import House, until
from tests.ports import free_port

SERVE = """
import hashlib, os, socketserver, sys

class Peer(socketserver.StreamRequestHandler):
    def handle(self):
        word = self.rfile.readline().split()
        if word[0] == b"give":
            block, digest = os.urandom(1 << 20), hashlib.sha256()
            for _ in range(int(word[1])):
                digest.update(block)
                self.wfile.write(block)
            self.wfile.write(digest.digest())
        elif word[0] == b"take":
            self.wfile.write(hashlib.sha256(self.rfile.read()).digest())
        else:
            self.wfile.write(b"hello " + word[0])

class Server(socketserver.ThreadingTCPServer):
    daemon_threads, allow_reuse_address, request_queue_size = True, True, 128

with Server(("127.0.0.1", int(os.environ["NEXUS_PORT_HTTP"])), Peer) as server:
    print("up", flush=True)
    server.serve_forever()
"""


def launch(house: House, *words: str, name: str = "job", **job: str) -> str:
    """A run that runs, and has said `up`."""
    settings = [part for key, value in job.items() for part in ("--set", f"{key}={value}")]
    command = ["launch", "--detach", "--yes", "--name", name, *settings, "--", *words]
    run = str(house.json(*command)["id"])
    until(lambda: "up" in house.run("logs", run, check=False), "the job's first word")
    return run


def state(house: House, run: str) -> str:
    return str(house.json("show", run)["run"]["state"])


@pytest.fixture(scope="module")
def waiting(standing: House) -> str:
    return launch(standing, "sh", "-c", "echo up; exec sleep 600", name="waiting")


@pytest.fixture(scope="module")
def serving(standing: House) -> str:
    ports = "[{name: http}]"
    return launch(standing, sys.executable, "-c", SERVE, name="serving", ports=ports)


def started(
    house: House,
    *words: str,
    stdin: int = subprocess.PIPE,
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "nexus", *words]
    return subprocess.Popen(command, env=house.environ, stdin=stdin, stdout=stdout, stderr=stderr)


@contextlib.contextmanager
def forwarded(house: House, run: str, *ports: str) -> Iterator[int]:
    """The port here, of the first."""
    process = started(house, "port-forward", run, *ports, stderr=subprocess.DEVNULL)
    assert process.stdout
    try:
        said = process.stdout.readline().decode()
        yield int(said.split()[0].rpartition(":")[2])
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        assert process.returncode == 0


def test_exec_is_the_command_itself(standing: House, waiting: str) -> None:
    done = standing.finish("exec", "waiting", "--", "sh", "-c", "echo $NEXUS_RUN_ID; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == (f"{waiting}\n", "err\n", 7)
    data = os.urandom(3_000_000)
    process = started(standing, "exec", f"{waiting}/main.0", "--", "sha256sum")
    out, _ = process.communicate(data, timeout=60)
    assert out.split()[0].decode() == hashlib.sha256(data).hexdigest()
    assert standing.finish("exec", waiting, "--", "sh", "-c", "kill -TERM $$").returncode == 143
    shell = subprocess.run(
        [sys.executable, "-m", "nexus", "ssh", waiting],
        env=standing.environ,
        input=b"echo in $NEXUS_ROLE; exit 3\n",
        capture_output=True,
        check=False,
    )
    assert (shell.stdout, shell.returncode) == (b"in main\n", 3)
    events = standing.json("events", "--run", waiting)
    assert {"sh", "sha256sum", "/bin/sh"} <= {one["data"]["program"] for one in events if one["kind"] == "run.exec"}


def test_exec_on_a_terminal(standing: House, waiting: str) -> None:
    """Sizes, keys, and our own terminal as it was."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 99, 0, 0))
    before = termios.tcgetattr(theirs)
    program = (
        "import os, signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH, signal.SIGINT]);"
        "say = lambda: print('size', *os.get_terminal_size(0), flush=True); say();"
        "signal.sigwait([signal.SIGWINCH]); say(); signal.sigwait([signal.SIGINT]); print('interrupted'); exit(5)"
    )
    words = ("exec", "-it", waiting, "--", "python3", "-c", program)
    process = started(standing, *words, stdin=theirs, stdout=theirs, stderr=theirs)
    assert b"size 99 31\r\n" in read_until(ours, b"31\r\n")
    assert not termios.tcgetattr(theirs)[3] & termios.ECHO, "raw: the other side echoes"
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    process.send_signal(signal.SIGWINCH)  # the kernel tells only a terminal's own session
    assert b"size 120 40\r\n" in read_until(ours, b"40\r\n")
    os.write(ours, b"\x03")
    assert b"interrupted" in read_until(ours, b"interrupted")
    assert process.wait(20) == 5
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)


def read_until(fd: int, word: bytes) -> bytes:
    heard = b""
    os.set_blocking(fd, False)
    deadline = time.monotonic() + 20
    while word not in heard:
        assert time.monotonic() < deadline, heard
        try:
            heard += os.read(fd, 4096)
        except BlockingIOError:
            time.sleep(0.01)
    return heard


def test_who_may_not_and_what_is_not_there(standing: House, waiting: str) -> None:
    missing = standing.finish("exec", "no-such-run", "--", "true")
    assert (missing.returncode, "no such run" in missing.stderr) == (4, True)
    port = standing.finish("port-forward", waiting, "grpc")
    assert (port.returncode, "has no port 'grpc'" in port.stderr) == (4, True)
    taken = socket.create_server(("127.0.0.1", free_port()))
    said = standing.finish("port-forward", waiting, f"{taken.getsockname()[1]}:8000")
    assert (said.returncode, "cannot listen" in said.stderr) == (5, True)
    taken.close()
    viewer = standing.json("token", "create", "--role", "viewer", "eyes")["secret"]
    wrong = subprocess.run(
        [sys.executable, "-m", "nexus", "exec", waiting, "--", "true"],
        env=standing.environ | {"NEXUS_TOKEN": viewer},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (wrong.returncode, "needs the role member" in wrong.stderr) == (3, True)
    shell = standing.finish("ssh", "--node", standing.json("nodes")[0]["node"]["name"])
    assert (shell.returncode, "--allow-shell" in shell.stderr) == (3, True)


def test_a_killed_client_leaves_no_process_behind(standing: House, waiting: str, tmp_path: Path) -> None:
    script = f"trap 'echo hup > {tmp_path}/hup; exit' HUP; echo $$; while :; do sleep 0.05; done"
    process = started(standing, "exec", waiting, "--", "sh", "-c", script)
    assert process.stdout
    pid = int(process.stdout.readline())
    process.kill()
    process.communicate()
    until(lambda: not Path(f"/proc/{pid}").exists(), "the end of what it started")
    assert (tmp_path / "hup").read_text() == "hup\n"


def asked(port: int, *said: bytes, pause_s: float = 0.0) -> bytes:
    """One connection: all of `said`, then everything that comes, read slowly if asked."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as wire:
        for part in said:
            wire.sendall(part)
        wire.shutdown(socket.SHUT_WR)
        parts = []
        while part := wire.recv(1 << 20):
            parts.append(part)
            time.sleep(pause_s)
        return b"".join(parts)


def test_a_port_here_is_the_port_there(standing: House, serving: str) -> None:
    with forwarded(standing, serving) as port:
        assert asked(port, b"ada\n") == b"hello ada"
        data = os.urandom(8 << 20)
        assert asked(port, b"take\n", data) == hashlib.sha256(data).digest()
    events = [one["kind"] for one in standing.json("events", "--run", serving)]
    assert events.count("run.port") == 1, "one event for all of somebody's connections"


def test_fifty_connections_at_once(standing: House, serving: str) -> None:
    answers: dict[int, bytes] = {}
    with forwarded(standing, serving, "0:http") as port:

        def ask(number: int) -> None:
            answers[number] = asked(port, b"n%d\n" % number)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert answers == {number: b"hello n%d" % number for number in range(50)}


def resident_b(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_a_hundred_megabytes_to_a_slow_reader(standing: House, serving: str) -> None:
    """Nothing piles up on the way, and every byte arrives."""
    assert standing.server
    pids = [standing.server.pid, standing.agent_pid()]
    with forwarded(standing, serving, "0:http") as port:
        asked(port, b"warm\n")
        before, most, over = [resident_b(pid) for pid in pids], [0, 0], threading.Event()

        def watch() -> None:
            while not over.wait(0.02):
                most[:] = [max(a, resident_b(pid)) for a, pid in zip(most, pids, strict=True)]

        watching = threading.Thread(target=watch)
        watching.start()
        received = asked(port, b"give 100\n", pause_s=0.005)
        over.set()
        watching.join()
    assert len(received) == (100 << 20) + 32
    assert hashlib.sha256(received[:-32]).digest() == received[-32:]
    grown = [peak - start for peak, start in zip(most, before, strict=True)]
    assert max(grown) < 24 << 20, grown


def test_the_end_of_the_run_ends_what_reaches_into_it(standing: House) -> None:
    run = launch(standing, "sh", "-c", "echo up; exec sleep 600", name="ending")
    forwarding = started(standing, "port-forward", run, "0:9")
    assert forwarding.stdout
    forwarding.stdout.readline()
    inside = started(standing, "exec", run, "--", "sh", "-c", "echo here; sleep 600")
    assert inside.stdout
    assert inside.stdout.readline() == b"here\n"
    standing.run("stop", run)
    _, said = inside.communicate(timeout=30)
    assert b"the task has ended" in said
    assert inside.returncode == 5
    _, said = forwarding.communicate(timeout=30)
    assert b"is over: stopped" in said
    assert forwarding.returncode == 0
    after = standing.finish("exec", run, "--", "true")
    assert (after.returncode, "is over: stopped" in after.stderr) == (5, True)


def test_a_run_that_nobody_uses_is_stopped(standing: House) -> None:
    run = launch(standing, "sh", "-c", "echo up; exec sleep 600", name="idler", idle_stop="1s")
    until(lambda: state(standing, run) == "stopped", "the idle stop")
    shown = standing.json("show", run)["run"]
    assert (shown["cause"], shown["reason"]) == ("idle", "idle for 1 s")


def test_kill_9_of_the_agent_in_the_middle_of_a_call(standing: House, waiting: str) -> None:
    inside, pid = _begun(standing, waiting)
    standing.kill_agent()
    assert b"the node's agent ended" in _last_words(inside)
    until(lambda: not Path(f"/proc/{pid}").exists(), "the end of what the call had started")
    assert until(lambda: _through(standing, waiting), "a call after that") == "again\n"
    assert state(standing, waiting) == "running"


def test_kill_9_of_the_server_in_the_middle_of_a_call(house: House) -> None:
    house.up()
    run = launch(house, "sh", "-c", "echo up; exec sleep 600")
    inside, pid = _begun(house, run)
    house.kill_server()
    assert b"the connection was cut" in _last_words(inside)
    until(lambda: not Path(f"/proc/{pid}").exists(), "the end of what the call had started")
    house.up()
    assert until(lambda: _through(house, run), "a call after that") == "again\n"
    assert state(house, run) == "running"


def _begun(house: House, run: str) -> tuple[subprocess.Popen[bytes], int]:
    inside = started(house, "exec", run, "--", "sh", "-c", "echo $$; exec sleep 599")
    assert inside.stdout
    return inside, int(inside.stdout.readline())


def _last_words(inside: subprocess.Popen[bytes]) -> bytes:
    _, said = inside.communicate(timeout=30)
    assert inside.returncode == 8
    return said


def _through(house: House, run: str) -> str | None:
    done = house.finish("exec", run, "--", "echo", "again")
    return done.stdout if done.returncode == 0 else None
