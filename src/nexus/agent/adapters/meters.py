"""What a task's processes use, from /proc, and its GPUs, from their driver."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from nexus.agent.adapters.home import Home
from nexus.agent.adapters.nvml import Load, Nvml, open_nvml
from nexus.agent.adapters.shim.formats import decode_status, now_s, start_ticks
from nexus.agent.adapters.shim.limits import descendants, resident_b
from nexus.agent.adapters.variables import given_devices
from nexus.agent.model import Reading
from nexus.launch.protocol import TaskOrder

_TICKS = os.sysconf("SC_CLK_TCK")


class TaskMeter:
    """Implements `ports.Meter`: the tree of processes below a task's shim, which adopts what they leave behind."""

    def __init__(self, home: Home, environ: Mapping[str, str] | None = None, nvml_library: str | None = None) -> None:
        self._home = home
        self._devices = given_devices(os.environ if environ is None else environ)
        self._library = nvml_library
        self._nvml: Nvml | None = None
        self._is_nvml_open = False

    def __call__(self, order: TaskOrder) -> Reading | None:
        try:
            status = decode_status((self._home.task(order).job / "claim").read_bytes())
        except OSError:
            return None
        shim, began = int(status.get("shim") or 0), status.get("job_start") or ""
        if not began or start_ticks(shim) != status.get("shim_start"):
            return None
        pids = descendants([shim])[1:]
        io = [_io(pid) for pid in pids]
        loads = self._loads(order.gpus)
        return Reading(
            lived_s=now_s() - int(began) / _TICKS,
            cpu_s=(sum(map(_cpu_ticks, pids)) + _ended_ticks(shim)) / _TICKS,
            memory_b=sum(map(resident_b, pids)),
            read_b=sum(one[0] for one in io if one),
            written_b=sum(one[1] for one in io if one),
            gpu_percent=sum(load.busy_percent for load in loads) / len(loads) if loads else None,
            gpu_memory_b=sum(load.memory_b for load in loads) if loads else None,
        )

    def _loads(self, gpus: Sequence[int]) -> list[Load]:
        if not gpus:
            return []
        if not self._is_nvml_open:
            self._nvml, self._is_nvml_open = open_nvml(self._library), True
        found = [self._nvml.load(index) for index in map(self._number, gpus)] if self._nvml else []
        return [load for load in found if load is not None]

    def _number(self, index: int) -> int:
        """The machine's number of a GPU, for an agent that was given only some of them."""
        name = self._devices[index] if index < len(self._devices) else ""
        return int(name) if name.isdigit() else index


def _cpu_ticks(pid: int) -> int:
    """Of a process, and of its children that have ended."""
    words = _stat(pid)
    return sum(map(int, words[11:15])) if words else 0


def _ended_ticks(pid: int) -> int:
    """Of its children that have ended."""
    words = _stat(pid)
    return sum(map(int, words[13:15])) if words else 0


def _stat(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return []


def _io(pid: int) -> tuple[int, int] | None:
    """Bytes read from and written to disks."""
    try:
        words = Path(f"/proc/{pid}/io").read_bytes().split()
        return int(words[words.index(b"read_bytes:") + 1]), int(words[words.index(b"write_bytes:") + 1])
    except (OSError, ValueError):
        return None
