"""A job held to its memory: by control groups of the kernel where we may make some, else by looking at it.

The agent makes the groups (`adapters.groups`); the shim steps into them just to start the job, which inherits them.
"""

from __future__ import annotations

import os

from .formats import now_s

_LOOK_S = 1.0  # a job that grows faster than what a machine has free in that time is the kernel's business
_PAGE_B = os.sysconf("SC_PAGE_SIZE")


class Limits:
    """What one job may use. `groups` are folders of control groups, `own` those that we live in, in the same order."""

    def __init__(self, memory_b: int, groups: list[str], own: list[str]) -> None:
        self._memory_b = memory_b
        self._groups = groups
        self._own = own
        self._memory_group = next((group for group in groups if _oom_file(group)), "")
        self.look_at = now_s() + _LOOK_S if memory_b else float("inf")

    def enter(self) -> None:
        """From here on, what this process starts is held. A group that is gone holds nobody: looking does then."""
        for group in self._groups:
            if not _move(group) and group == self._memory_group:
                self._memory_group = ""

    def leave(self) -> None:
        """Back, for the shim must outlive its job."""
        for group in self._own:
            _move(group)

    def is_over(self, roots: list[int]) -> bool:
        """Whether the job has used more than it may; `roots` are its processes without a parent in it."""
        self.look_at = now_s() + _LOOK_S if self._memory_b else float("inf")
        if not self._memory_b:
            return False
        if self._memory_group:
            return _oom_count(self._memory_group) > 0
        pids = descendants(roots)
        if sum(resident_b(pid) for pid in pids) <= self._memory_b:
            return False
        return sum(_share_b(pid) for pid in pids) > self._memory_b  # pages that forks share count once

    def remove(self) -> None:
        """The job has ended: its groups go."""
        for group in self._groups:
            try:
                os.rmdir(group)  # noqa: PTH106 (a process that is not quite gone keeps it; the agent sweeps)
            except OSError:
                continue


def descendants(roots: list[int]) -> list[int]:
    """These processes and all that they started and that still have their parents."""
    found: list[int] = []
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        try:
            threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208
            for thread in threads:
                with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:  # noqa: PTH123
                    waiting += map(int, file.read().split())
        except OSError:
            continue  # it has ended, or the kernel does not tell
    return found


def _move(group: str) -> bool:
    try:
        with open(f"{group}/cgroup.procs", "wb", buffering=0) as file:  # noqa: PTH123
            file.write(b"0")
    except OSError:
        return False
    return True


def _oom_file(group: str) -> str:
    """Where the kernel counts what it killed in a group: version 2, version 1."""
    for name in ("memory.events.local", "memory.events", "memory.oom_control"):
        if os.path.exists(f"{group}/{name}"):  # noqa: PTH110
            return f"{group}/{name}"
    return ""


def _oom_count(group: str) -> int:
    try:
        with open(_oom_file(group), "rb") as file:  # noqa: PTH123
            words = file.read().split()
        return int(words[words.index(b"oom_kill") + 1])
    except (OSError, ValueError):
        return 0


def resident_b(pid: int) -> int:
    """The memory of a process, with all that it shares; 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * _PAGE_B
    except (OSError, IndexError):
        return 0


def _share_b(pid: int) -> int:
    """The memory of a process, with pages of several divided among them: slow, so it is asked for last."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:  # noqa: PTH123
            return int(file.read().partition(b"\nPss:")[2].split()[0]) * 1024
    except (OSError, IndexError):
        return resident_b(pid)
