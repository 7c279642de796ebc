"""`python -m nexus.agent.captive TICKET SCRATCH`: an agent inside an allocation that somebody else will end.

A fleet's agent may be killed and come back, so its tasks outlive it. In an allocation (a Slurm job) nothing may be left
behind: when the agent ends, or is told to, everything that it started ends, and its folder goes.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: what loses its parent becomes our child, not init's
_DOUBT_S = "0.3"  # who ends an allocation ends tasks and agent alike, and a task may go first: it is not its own end
_GRACE_S = 10.0  # between TERM and KILL for tasks; Slurm itself gives 30 s by default


def main(args: list[str]) -> int:
    """The agent's exit code; 2 when there is no ticket."""
    ticket, scratch = Path(args[0]), Path(args[1])
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)  # heard in one place: none comes in a moment that has no ear
    _adopt()
    home = Path(tempfile.mkdtemp(prefix="nexus-", dir=scratch))
    try:
        _take(ticket, home / "ticket.json")
    except OSError as error:
        sys.stderr.write(f"error: no ticket at {ticket}: {error.strerror}\n  → The fleet's folder must be shared.\n")
        shutil.rmtree(home, ignore_errors=True)
        return 2
    environ = os.environ | {"NEXUS_DOUBT_S": _DOUBT_S}
    words = [sys.executable, "-m", "nexus.agent", str(home)]
    agent = subprocess.Popen(words, env=environ, stdin=subprocess.DEVNULL, preexec_fn=_unblock)  # noqa: PLW1509
    try:
        return _watch(agent)
    finally:
        _end_all()
        shutil.rmtree(home, ignore_errors=True)


def _watch(agent: subprocess.Popen[bytes]) -> int:
    """The agent's exit code, once it has ended; it is told to end when we are."""
    while True:
        if signal.sigwait(_HEARD) != signal.SIGCHLD:
            os.kill(agent.pid, signal.SIGTERM)  # it has not been buried, so the number is still its own
        elif agent.pid in (ended := _bury()):
            agent.returncode = ended[agent.pid]
            return agent.returncode


def _unblock() -> None:
    """In the agent's process, before it becomes one."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)


def _adopt() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, 1, 0, 0, 0)


def _take(ticket: Path, own: Path) -> None:
    """Move the ticket from the shared folder to ours; it works once, and is readable by us only."""
    descriptor = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(ticket.read_bytes())
    ticket.unlink()


def _end_all() -> None:
    """TERM, then KILL, for every process under us, however deep or detached."""
    deadline = time.monotonic() + _GRACE_S
    _signal_all(signal.SIGTERM)
    while _descendants() and time.monotonic() < deadline:
        time.sleep(0.02)
        _bury()
    while _descendants():
        _signal_all(signal.SIGKILL)
        time.sleep(0.02)
        _bury()


def _signal_all(number: int) -> None:
    for pid in _descendants():
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _bury() -> dict[int, int]:
    """Children that have ended, those that we adopted too, with their exit codes."""
    ended = {}
    try:
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            ended[found[0]] = os.waitstatus_to_exitcode(found[1])
    except ChildProcessError:
        pass
    return ended


def _descendants() -> list[int]:
    """Every process whose parents lead to us."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 (asked often)
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:  # noqa: PTH123
                    parents[int(name)] = int(file.read().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {os.getpid()})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
