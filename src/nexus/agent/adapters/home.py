"""The agent's folder: where everything is. Nobody but its owner may read it.

<home>/node.json              this machine's name and token
<home>/process                held by the agent's process from its first moment, with its number in it
<home>/wake                   a pipe by which shims wake the agent
<home>/sdk/nexus              this package, for jobs in any environment
<home>/environments/<hash>    prepared environments
<home>/checkpoints/<run>      what attempts of a run on this machine leave to each other
<home>/tasks/<task>.<epoch>   task.json, lease, work/, spool/, log/, setup/, job/
"""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path

import nexus
from nexus.kernel.errors import ConflictError, UsageError
from nexus.launch.protocol import TaskOrder

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


class TaskHome:
    """One task's folder. Its paths are made once: an agent asks for them many times a second."""

    __slots__ = (
        "environment", "job", "lease", "log", "outputs", "parcels", "path", "record", "setup", "spool", "work",
    )  # fmt: skip

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record = path / "task.json"
        self.lease = path / "lease"
        self.work = path / "work"
        self.outputs = path / "outputs"
        self.spool = path / "spool"
        self.log = path / "log"
        self.setup = path / "setup"
        self.job = path / "job"
        self.parcels = path / "parcels"
        self.environment = path / "environment"  # names the environment that was prepared for the task

    def make(self) -> None:
        """Create what every task has; each folder is a third of a millisecond on a busy disk."""
        for folder in (self.path, self.outputs, self.spool, self.log):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)


class Home:
    """The agent's folder, made on first use."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.tasks = self.path / "tasks"
        self.environments = self.path / "environments"
        self.checkpoints = self.path / "checkpoints"
        self.wake = self.path / "wake"
        self.node = self.path / "node.json"
        self.sdk = self.path / "sdk"
        self._task_homes: dict[tuple[str, int], TaskHome] = {}
        for folder in (self.path, self.tasks, self.environments, self.checkpoints, self.path / "sdk"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._link_sdk()
        if not self.wake.exists():
            os.mkfifo(self.wake, 0o600)

    def task(self, order: TaskOrder) -> TaskHome:
        """The folder of a task under this lease. Raises UsageError if its id could lead elsewhere."""
        key = (order.task, order.epoch)
        if key not in self._task_homes:
            self._task_homes[key] = TaskHome(self.tasks / f"{_checked(order.task)}.{int(order.epoch)}")
        return self._task_homes[key]

    def forget(self, order: TaskOrder) -> None:
        """The task's folder is about to go."""
        self._task_homes.pop((order.task, order.epoch), None)

    def run_checkpoints(self, order: TaskOrder) -> Path:
        """What this run's attempts on this machine share."""
        folder = self.checkpoints / _checked(order.run)
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def poke(self, task: TaskHome) -> None:
        """Have the agent that listens on this home, if any does, look at a task."""
        try:
            fd = os.open(self.wake, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return
        try:
            os.write(fd, wake_word(task))
        except OSError:
            pass  # the pipe is full of wake-ups already
        finally:
            os.close(fd)

    def lock(self, name: str = "agent.lock") -> int:
        """Keep a second agent out of this home while this process lives. Raises ConflictError."""
        fd = os.open(self.path / name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(fd)
            raise ConflictError(
                f"another agent works in {self.path}",
                hint="One agent a home: stop the other, or name another folder with --home.",
            ) from error
        os.ftruncate(fd, 0)
        os.write(fd, str(os.getpid()).encode())
        return fd

    def _link_sdk(self) -> None:
        link, package = self.path / "sdk" / "nexus", Path(nexus.__file__).parent
        if link.is_symlink() and link.readlink() == package:
            return
        draft = link.with_name(f"nexus.{os.getpid()}")
        draft.symlink_to(package)
        draft.replace(link)


def wake_word(task: TaskHome) -> bytes:
    """What the wake pipe is told to have a task looked at: short enough to be written whole."""
    return task.path.name.encode() + b"\n"


def _checked(text: str) -> str:
    if _SAFE.fullmatch(text) is None:
        raise UsageError(f"{text[:100]!r} cannot name a task or run")
    return text
