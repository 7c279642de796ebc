"""Processes by what they have in common: a session, a mark in their environment, or an ancestor."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def kill_marked(mark: str) -> None:
    """Every process that carries the mark in its environment, until there is none."""
    for _ in range(50):
        if not signal_marked(mark, signal.SIGKILL):
            return


def signal_marked(mark: str, number: int) -> bool:
    """To every process that carries the mark; whether there is one."""
    found = [pid for pid in _processes() if _carries(pid, mark.encode())]
    for pid in found:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
    return bool(found)


def signal_visitor(leader: int, mark: str, number: int) -> None:
    """To the session, and to those whom an engine started for it elsewhere, known by their mark."""
    signal_session(leader, number)
    if mark:
        signal_marked(mark, number)


def _carries(pid: int, marker: bytes) -> bool:
    with contextlib.suppress(OSError):
        return b"\0" + marker + b"\0" in b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
    return False


def signal_session(leader: int, number: int) -> None:
    """To every process of the session, in whichever group; where there is no /proc, to the leader's group."""
    for pid in _session(leader) or [-leader]:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _session(leader: int) -> list[int]:
    found = []
    for pid in _processes():
        with contextlib.suppress(OSError, IndexError, ValueError):
            words = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            if int(words[3]) == leader and words[0] not in {b"Z", b"X"}:
                found.append(pid)
    return found


def used_cpu_s(root: int) -> float | None:
    """Of a process's descendants, and of those that it has outlived; None where there is no /proc."""
    ticks, waiting = 0, [root]
    if not Path(f"/proc/{root}/task/{root}/children").exists():
        return None
    while waiting:
        pid = waiting.pop()
        with contextlib.suppress(OSError, IndexError, ValueError):
            words = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            ticks += sum(map(int, words[13:15] if pid == root else words[11:15]))  # its own, then ended children's
            for thread in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (thread / "children").read_bytes().split())
    return ticks / os.sysconf("SC_CLK_TCK")


def _processes() -> list[int]:
    try:
        return [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
    except FileNotFoundError:  # not every system has it
        return []
