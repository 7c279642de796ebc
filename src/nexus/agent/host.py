"""What a provider does on a machine on which it can run a program: say what it is, start an agent, find it, end it.

`python PACKAGE host VERB` (or `python -m nexus.agent.host VERB`) reads one JSON value on standard input, and writes
one:

    probe   Look                        -> Probed     what the machine is, and whether an agent works in this home
    start   Start                       -> Seen       the same machine again starts nothing new
    look    list of Look                -> list of Seen, in that order; an agent that died is started again
    stop    Look                        -> Seen       TERM, then KILL
    move    Move                        -> Seen       the agent goes on with another URL of the server

An agent's home holds the id of the machine that it was started as (`machine`), so every verb may be repeated. Agents
are daemons: they outlive the connection over which they were started.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

import nexus
from nexus.agent.adapters.probe import probe as probe_machine
from nexus.agent.wire import membership, remember
from nexus.kernel.errors import LimitError, NexusError, UnavailableError, UsageError
from nexus.launch.protocol import NodeInfo, Ticket

_PATIENCE_S = 10.0  # with a process that shall begin or end


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """An agent's home, and the machine that it should be."""

    home: str
    machine: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Start(Look):
    """And what it needs to join."""

    ticket: Ticket


@dataclass(frozen=True, slots=True, kw_only=True)
class Move(Look):
    """And where the server is now."""

    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What a host is."""

    info: NodeInfo
    machine: str = ""  # as which an agent works there now


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An agent's process, as it is."""

    running: bool
    url: str = ""  # where it reaches the server
    detail: str = ""  # its last words, when it does not run


def probe(wanted: Look) -> Probed:
    """This machine; the disk that counts is where the home is, or will be."""
    home = place = _home(wanted)
    while not place.exists():
        place = place.parent
    return Probed(info=probe_machine(place, ""), machine=_machine(home) if _pid(home) is not None else "")


def start(wanted: Start) -> Seen:
    """See to it that an agent works here as this machine."""
    home = _home(wanted)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(home):
        if _machine(home) != wanted.machine:
            _end(home)
            (home / "node.json").unlink(missing_ok=True)
            _write(home / "ticket.json", msgspec.json.encode(wanted.ticket))
            _write(home / "machine", wanted.machine.encode())
        if _pid(home) is None:
            _spawn(home)
        return _seen(home)


def look(wanted: Look) -> Seen:
    """What became of it; an agent that was killed, or that went with a restart of the machine, is started again."""
    home = _home(wanted)
    if _machine(home) != wanted.machine:
        return Seen(running=False, detail="this host does not know it")
    with _alone(home):
        if _pid(home) is None and (home / "node.json").exists():
            _spawn(home)
            return _seen(home)
        return _seen(home)


def stop(wanted: Look) -> Seen:
    """End it; nothing if another machine works in this home."""
    home = _home(wanted)
    if _machine(home) == wanted.machine:
        with _alone(home):
            _end(home)
            for name in ("machine", "ticket.json", "node.json"):
                (home / name).unlink(missing_ok=True)
    return Seen(running=False)


def move(wanted: Move) -> Seen:
    """The server is reached by another URL now. The agent is started again with it; its tasks outlive that."""
    home = _home(wanted)
    if _machine(home) != wanted.machine:
        return Seen(running=False, detail="this host does not know it")
    with _alone(home):
        if (home / "ticket.json").exists():
            ticket = msgspec.json.decode((home / "ticket.json").read_bytes(), type=Ticket)
            _write(home / "ticket.json", msgspec.json.encode(replace(ticket, url=wanted.url)))
        if (home / "node.json").exists():
            remember(home, replace(membership(home), url=wanted.url))
        _end(home)
        _spawn(home)
        return _seen(home)


def _home(wanted: Look) -> Path:
    return Path(wanted.home).expanduser().absolute()


def _machine(home: Path) -> str:
    try:
        return (home / "machine").read_text()
    except FileNotFoundError:
        return ""


def _pid(home: Path) -> int | None:
    """The agent's process, if there is one: it holds this file, and writes its number there at once."""
    give_up = time.monotonic() + _PATIENCE_S
    while _is_held(home):
        pid = int((home / "process").read_bytes() or b"0")
        if pid and _is_agent(pid, home):
            return pid
        if time.monotonic() > give_up:
            raise UnavailableError(f"who holds {home / 'process'} does not say so", hint="Look at the host.")
        time.sleep(0.002)
    return None


def _is_held(home: Path) -> bool:
    try:
        lock = os.open(home / "process", os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _is_agent(pid: int, home: Path) -> bool:
    """Whether the number is not the last agent's, still to be written over; a number may have been given to another."""
    try:
        return os.fsencode(home) in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return not Path("/proc/self").exists()  # no such process, or no way to see


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Two calls about one home come after each other."""
    lock = os.open(home / "host.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _spawn(home: Path) -> None:
    """Start the agent as a daemon, and wait until `_pid` finds it, or it has ended."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("NEXUS_", "SSH_"))}
    log = str(home / "agent.log")
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    argv = _agent(home)
    pid = os.posix_spawn(argv[0], argv, environ, file_actions=actions, setsid=True)
    give_up = time.monotonic() + _PATIENCE_S
    while os.waitpid(pid, os.WNOHANG) == (0, 0) and _pid(home) is None and time.monotonic() < give_up:
        time.sleep(0.01)


def _agent(home: Path) -> list[str]:
    """A package that was sent here starts by its own `__main__`; an installed one as a module."""
    sent = Path(nexus.__file__).parent.parent / "__main__.py"
    if sent.exists():
        return [sys.executable, "-I", str(sent.parent), "agent", str(home)]
    return [sys.executable, "-m", "nexus.agent", str(home)]


def _end(home: Path) -> None:
    """TERM, then KILL. Raises UnavailableError if even that does not end it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        give_up = time.monotonic() + _PATIENCE_S
        while (pid := _pid(home)) is not None:
            if time.monotonic() > give_up:
                break
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            time.sleep(0.02)
        else:
            return
    raise UnavailableError(f"the agent in {home} does not end", hint="Is its disk gone? Look at the host.")


def _seen(home: Path) -> Seen:
    running = _pid(home) is not None
    url = ""
    with contextlib.suppress(NexusError):
        url = membership(home).url
    if not url and (home / "ticket.json").exists():
        url = msgspec.json.decode((home / "ticket.json").read_bytes(), type=Ticket).url
    return Seen(running=running, url=url, detail="" if running else _last_words(home))


def _last_words(home: Path) -> str:
    try:
        lines = (home / "agent.log").read_text(errors="replace").strip().splitlines()
    except FileNotFoundError:
        return ""
    return " ".join(line.strip() for line in lines[-2:])[-500:]


def _write(file: Path, content: bytes) -> None:
    """Whole or not at all, for the owner only: a ticket holds a token."""
    draft = file.with_name(file.name + ".new")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as out:
        out.write(content)
    draft.replace(file)


def main(verb: str) -> int:
    """One verb; the exit code. What is wrong is told as the error's JSON on standard output."""
    told = sys.stdin.buffer.read()
    try:
        answer = _do(verb, told)
    except NexusError as error:
        answer = error.as_dict()
    except OSError as error:
        answer = LimitError(f"{error.filename or 'the host'}: {error.strerror}", hint="Is the disk full?").as_dict()
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    return 0


def _do(verb: str, told: bytes) -> Any:
    if verb == "probe":
        return probe(msgspec.json.decode(told, type=Look))
    if verb == "start":
        return start(msgspec.json.decode(told, type=Start))
    if verb == "look":
        return [look(one) for one in msgspec.json.decode(told, type=list[Look])]
    if verb == "stop":
        return stop(msgspec.json.decode(told, type=Look))
    if verb == "move":
        return move(msgspec.json.decode(told, type=Move))
    raise UsageError(f"no such verb: {verb}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
