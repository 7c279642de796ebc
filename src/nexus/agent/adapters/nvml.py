"""NVIDIA's management library, by the seven of its calls that an agent needs: no package, and no process to start.

The library comes with the driver. Every call answers a number; 0 is success. Loading it takes 30 ms once, a reading of
one GPU some microseconds. https://docs.nvidia.com/deploy/nvml-api
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

LIBRARY = "libnvidia-ml.so.1"
_SIGNS = ("/dev/nvidiactl", "/dev/dxg", "/proc/driver/nvidia/version")  # of a driver; /dev/dxg is that of WSL
_TEXT_B = 96  # longer than any name or version (NVML_DEVICE_NAME_V2_BUFFER_SIZE)

# What says how a card is mounted, cooled or fed, not which it is.
_WORDS = re.compile(
    r"(?i)nvidia|geforce|tesla|quadro|generation|gpu|pcie|sxm\d*|mxm|hbm\d*e?|\d+gb|hgx|for|cmp", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Card:
    """One GPU as the driver tells of it."""

    name: str
    memory_b: int


@dataclass(frozen=True, slots=True)
class Load:
    """What one GPU does now: percent of the time in which it computed, and bytes of its memory in use."""

    busy_percent: float
    memory_b: int


class Nvml:
    """The driver's library, opened. Raises OSError where there is none, or no driver answers it."""

    def __init__(self, library: str = LIBRARY) -> None:
        import ctypes  # a megabyte, which machines without a GPU do not pay

        class Memory(ctypes.Structure):
            _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]

        class Utilization(ctypes.Structure):
            _fields_ = [(name, ctypes.c_uint) for name in ("gpu", "memory")]

        self._c = ctypes
        self._memory, self._utilization = Memory, Utilization
        self._library = ctypes.CDLL(library)
        if self._call("nvmlInit_v2"):
            raise OSError(f"{library} is there, and no driver answers it")

    def close(self) -> None:
        """Let the driver go."""
        self._call("nvmlShutdown")

    def driver(self) -> str:
        """The driver's version, such as 550.54.15; empty if it does not say."""
        text = self._c.create_string_buffer(_TEXT_B)
        return "" if self._call("nvmlSystemGetDriverVersion", text, self._c.c_uint(_TEXT_B)) else text.value.decode()

    def cards(self) -> list[Card]:
        """Every GPU, in the order of their numbers. One that has fallen off the bus is left out, with those behind it:
        a GPU's number must be its place in this list.
        """
        count = self._c.c_uint()
        if self._call("nvmlDeviceGetCount_v2", self._c.byref(count)):
            return []
        found = []
        for index in range(count.value):
            handle, text, memory = self._device(index), self._c.create_string_buffer(_TEXT_B), self._memory()
            if (
                handle is None
                or self._call("nvmlDeviceGetName", handle, text, self._c.c_uint(_TEXT_B))
                or self._call("nvmlDeviceGetMemoryInfo", handle, self._c.byref(memory))
            ):
                break
            found.append(Card(text.value.decode(errors="replace"), int(memory.total)))
        return found

    def load(self, index: int) -> Load | None:
        """What GPU `index` does now; None if it does not say."""
        handle, memory, use = self._device(index), self._memory(), self._utilization()
        if handle is None or self._call("nvmlDeviceGetMemoryInfo", handle, self._c.byref(memory)):
            return None
        self._call("nvmlDeviceGetUtilizationRates", handle, self._c.byref(use))  # a slice of a GPU does not know
        return Load(float(use.gpu), int(memory.used))

    def _device(self, index: int) -> object | None:
        handle = self._c.c_void_p()
        failed = self._call("nvmlDeviceGetHandleByIndex_v2", self._c.c_uint(index), self._c.byref(handle))
        return None if failed else handle

    def _call(self, name: str, *arguments: object) -> int:
        try:
            return int(getattr(self._library, name)(*arguments))
        except AttributeError:
            return -1  # a driver of another age


def open_nvml(library: str | None = None) -> Nvml | None:
    """The library, or None on a machine without an NVIDIA driver."""
    if library is None and not any(Path(sign).exists() for sign in _SIGNS):
        return None
    try:
        return Nvml(library or LIBRARY)
    except OSError:
        return None


def short_name(name: str) -> str:
    """A card as job files and price lists call it: `NVIDIA GeForce RTX 4090` is RTX4090, `A100-SXM4-80GB` is A100."""
    words = [word for word in re.split(r"[\s-]+", name) if word and not _WORDS.fullmatch(word)]
    return "".join(words) or name
