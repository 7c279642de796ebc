"""Control groups of the kernel, where this agent may make some: they hold a job to its memory and its share of cpu.

Version 2 as root, or in a group that was delegated to us; version 1 as root. Elsewhere there are none, and the shim
looks at its job's memory itself. A group has the task's name, in a folder of this home, so that what a killed agent
left behind is found again.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


class Groups:
    """Groups for the tasks of one home. Nothing is touched before the first task that asked for something."""

    def __init__(self, home: Path, root: Path = ROOT) -> None:
        self._name = "nexus-" + hashlib.sha256(str(home).encode()).hexdigest()[:12]
        self._root = root
        self._parents: dict[str, Path] | None = None  # controller -> where our groups are

    def make(self, task: str, *, cpu: float, memory_b: int) -> tuple[list[Path], list[Path]]:
        """The groups in which a task shall start, and those in which we are now. Empty where nothing is held."""
        made: dict[Path, Path] = {}
        for controller, wanted in (("memory", memory_b), ("cpu", cpu)):
            parent = self._found().get(controller) if wanted else None
            if parent is None:
                continue
            group = parent / task
            try:
                group.mkdir(exist_ok=True)
                for name, value in _settings(group, controller, cpu, memory_b):
                    (group / name).write_text(value)
            except OSError:
                continue
            made[group] = self._ours(controller)
        return list(made), list(made.values())

    def places(self, task: str = "") -> set[Path]:
        """Where a task's groups would be, or (without one) all of this home's."""
        bases = {self._ours("memory"), self._ours("cpu"), self._root}
        return {base / self._name / task for base in bases}

    def sweep(self, living: frozenset[str]) -> None:
        """Remove the groups of tasks that are not among the `living`."""
        parents = [parent for parent in self.places() if parent.is_dir()]
        for group in [group for parent in parents for group in parent.iterdir() if group.is_dir()]:
            if group.name not in living:
                try:
                    group.rmdir()
                except OSError:
                    continue  # somebody is in it yet

    def _found(self) -> dict[str, Path]:
        if self._parents is None:
            self._parents = {}
            for controller in ("memory", "cpu"):
                parent = self._parent(controller)
                if parent is not None:
                    self._parents[controller] = parent
        return self._parents

    def _parent(self, controller: str) -> Path | None:
        """The folder of our groups, made now; None where we may not, or where the kernel holds nothing there."""
        if not (self._root / "cgroup.controllers").exists():
            return _made(self._ours(controller) / self._name, controller)
        # A group of version 2 with processes in it hands nothing down, except the root of all: so not below ours.
        for base in dict.fromkeys((self._ours(controller), self._root)):
            parent = base / self._name
            if _hand_down(base, controller) and _made(parent, controller) and _hand_down(parent, controller):
                return parent
        return None

    def _ours(self, controller: str) -> Path:
        """The group in which this process is."""
        unified = (self._root / "cgroup.controllers").exists()
        for line in _read(Path("/proc/self/cgroup")).splitlines():
            _, controllers, path = line.split(":", 2)
            if unified and not controllers:
                return self._root / path.strip("/")
            if not unified and controller in controllers.split(","):
                return self._root / controller / path.strip("/")
        return self._root if unified else self._root / controller


def _made(parent: Path, controller: str) -> Path | None:
    sign = {"memory": ("memory.max", "memory.limit_in_bytes"), "cpu": ("cpu.weight", "cpu.shares")}[controller]
    try:
        parent.mkdir(exist_ok=True)
    except OSError:
        return None
    return parent if any(os.access(parent / name, os.W_OK) for name in sign) else None


def _hand_down(base: Path, controller: str) -> bool:
    """Whether groups below `base` have the controller, if need be from now on."""
    control = base / "cgroup.subtree_control"
    if controller in _read(control).split():
        return os.access(base, os.W_OK)
    try:
        control.write_text(f"+{controller}")
    except OSError:
        return False
    return True


def _settings(group: Path, controller: str, cpu: float, memory_b: int) -> list[tuple[str, str]]:
    unified = (group / "cgroup.controllers").exists()
    if controller == "memory":
        return [("memory.max" if unified else "memory.limit_in_bytes", str(memory_b))]
    if unified:
        return [("cpu.weight", str(min(10_000, max(1, round(100 * cpu)))))]
    return [("cpu.shares", str(min(262_144, max(2, round(1024 * cpu)))))]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
