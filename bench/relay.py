"""Into a running task: `nexus exec` and `nexus port-forward` beside plain ssh and `ssh -L` to a real sshd here.

ssh reaches a host that listens; Nexus reaches a task whose agent only dials out, so every byte goes through the server
too. Both ends are on this machine: what is measured is the programs, not a network.

    python -m bench.relay
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tests.e2e.house import House, until
from tests.e2e.test_reach import SERVE
from tests.launch.providers.sshd import Sshd
from tests.ports import free_port

from bench.house import house
from bench.peer import Figure, report, wall_seconds

SIZE_MB = 256


def call_seconds(made: House, run: str, repeat: int = 31) -> Figure:
    """From the wish to the exit code, in a program that runs already and an agent that is warm."""
    from nexus.launch.calls import CallKind, CallRequest, Part, message
    from nexus.launch.faces.calling import attach, heard
    from nexus.launch.faces.client import LaunchClient

    client = LaunchClient(made.http)
    request = CallRequest(kind=CallKind.EXEC, argv=("true",))

    async def once() -> None:
        wire = await attach(made.http, client.call(run, request))
        await wire.send(message(Part.IN_END))
        part, _ = await heard(wire)
        assert part is Part.EXIT
        await wire.close()

    return wall_seconds(lambda: asyncio.run(once()), repeat)


def mb_per_s(port: int, repeat: int = 3) -> Figure:
    """Through a port of this machine, one connection."""
    return Figure([SIZE_MB * 1.048576 / seconds for seconds in wall_seconds(partial(fetch, port), repeat).values])


def fetch(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as wire:
        wire.sendall(b"give %d\n" % SIZE_MB)
        left = (SIZE_MB << 20) + 32
        while left and (part := wire.recv(1 << 20)):
            left -= len(part)
        assert left == 0


def greet(port: int) -> None:
    """A connection with one word each way."""
    with socket.create_connection(("127.0.0.1", port)) as wire:
        wire.sendall(b"n\n")
        assert wire.recv(100) == b"hello n"


@contextlib.contextmanager
def running(command: list[str], port: int, env: dict[str, str] | None = None) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    try:
        until(lambda: answers(port), "the forwarded port")
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def answers(port: int) -> bool:
    try:
        greet(port)
    except (OSError, AssertionError):
        return False
    return True


def main() -> None:
    rows: list[tuple[object, ...]] = []
    with house() as made, tempfile.TemporaryDirectory() as folder:
        command = ["launch", "--detach", "--yes", "--set", "ports=[{name: http}]", "--set", "workspace=null"]
        run = made.json(*command, "--", sys.executable, "-c", SERVE)["id"]
        until(lambda: "up" in made.run("logs", run, check=False), "the job's first word")
        number = made.json("show", run)["tasks"][0]["ports"]["http"]
        host = Sshd(Path(folder) / "host")
        key = ["-i", str(host.place / "user_key"), "-p", str(host.port)]
        trust = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        ssh = ["ssh", *key, *trust, f"{getpass.getuser()}@127.0.0.1"]
        nexus = [sys.executable, "-m", "nexus"]

        def whole(words: list[str]) -> Callable[[], object]:
            return lambda: subprocess.run(words, check=True, env=made.environ, stdin=subprocess.DEVNULL)

        try:
            host.start()
            commands = [
                wall_seconds(whole(words), 11) for words in ([*nexus, "exec", run, "--", "true"], [*ssh, "true"])
            ]
            rows.append(("a whole command, s", *commands))
            rows.append(("a call in a program that runs, s", call_seconds(made, run), ""))
            ours, theirs = free_port(), free_port()
            forward = [*nexus, "port-forward", run, f"{ours}:http"]
            tunnel = [*ssh, "-N", "-L", f"{theirs}:127.0.0.1:{number}"]
            with running(forward, ours, env=made.environ), running(tunnel, theirs):
                connect = [wall_seconds(partial(greet, port), 31) for port in (ours, theirs)]
                stream = [mb_per_s(port) for port in (ours, theirs)]
            rows += [("a new connection, s", *connect), (f"{SIZE_MB} MB over one connection, MB/s", *stream)]
        finally:
            host.stop()
    lines = ["| | Nexus | OpenSSH |", "|---|---|---|", *(f"| {what} | {mine} | {peer} |" for what, mine, peer in rows)]
    report("relay", "\n".join(lines))


if __name__ == "__main__":
    main()
