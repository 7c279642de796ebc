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

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: what loses its parent becomes our child, not init's
_DOUBT_S = "0.3"  # who ends an allocation ends tasks and agent alike, and a task may go first: it is not its own end
_GRACE_S = 10.0  # between TERM and KILL for tasks; Slurm itself gives 30 s by default


def main(args: list[str]) -> int:
    """The agent's exit code; 2 when there is no ticket."""
    ticket, scratch = Path(args[0]), Path(args[1])
    _adopt()
    home = Path(tempfile.mkdtemp(prefix="nexus-", dir=scratch))
    try:
        _take(ticket, home / "ticket.json")
    except OSError as error:
        sys.stderr.write(f"error: no ticket at {ticket}: {error.strerror}\n  → The fleet's folder must be shared.\n")
        shutil.rmtree(home, ignore_errors=True)
        return 2
    environ = os.environ | {"NEXUS_DOUBT_S": _DOUBT_S}
    agent = subprocess.Popen([sys.executable, "-m", "nexus.agent", str(home)], env=environ, stdin=subprocess.DEVNULL)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.terminate())
    try:
        return agent.wait()
    finally:
        _end_all()
        shutil.rmtree(home, ignore_errors=True)


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


def _bury() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


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
