"""What this machine is: processors, memory, disk, accelerators, address, and which boot of it this is."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from nexus import __version__
from nexus.agent.adapters.isolation.levels import known_levels
from nexus.agent.adapters.nvml import open_nvml, short_name
from nexus.agent.adapters.variables import given_devices
from nexus.kernel.ids import to_name
from nexus.launch.model import Capacity, Gpu
from nexus.launch.protocol import NodeInfo

_MIB = 1024 * 1024
_CGROUP = Path("/sys/fs/cgroup")


def probe(home: Path, url: str, *, name: str = "", labels: Mapping[str, str] | None = None) -> NodeInfo:
    """This machine, as the server shall see it. Takes some milliseconds; about a second where only `nvidia-smi` tells
    of the GPUs.
    """
    gpus, driver = nvidia_gpus()
    boot = boot_id()
    return NodeInfo(
        name=name or to_name(socket.gethostname()),
        boot=boot,
        capacity=Capacity(cpu=cpus(), memory_b=memory_b(), disk_b=shutil.disk_usage(home).free, gpus=_given(gpus)),
        labels=own_labels(driver) | dict(labels or {}),
        address=own_address(url),
        agent_version=__version__,
        isolation=known_levels(boot),
    )


def _given(gpus: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    """Those that whoever started this program left it, in its order; all, where CUDA_VISIBLE_DEVICES says nothing."""
    if "CUDA_VISIBLE_DEVICES" not in os.environ:
        return gpus
    names = given_devices(os.environ)
    if all(name.isdigit() and int(name) < len(gpus) for name in names):
        return tuple(gpus[int(name)] for name in names)
    return gpus[: len(names)]  # called by other names than numbers, or numbered anew


def own_labels(driver: str = "") -> dict[str, str]:
    """What anybody may ask for without the owner having said it; `driver` is that of the GPUs."""
    found = {
        "os": platform.system().lower(),
        "arch": {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine()),
        "python": platform.python_version(),
        "cpu": cpu_model(Path("/proc/cpuinfo")),
        "nvidia-driver": driver,
        "fabric": "infiniband" if any(Path("/sys/class/infiniband").glob("*")) else "",
    }
    return {name: value for name, value in found.items() if value}


def cpu_model(cpuinfo: Path) -> str:
    """The processor's name, as its maker writes it; empty where the system does not tell."""
    for line in _read(cpuinfo).splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"model name", "Model"}:
            return " ".join(value.split())
    return ""


def boot_id() -> str:
    """Another value after each start of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        words = _output("sysctl", "-n", "kern.boottime").strip()
        return words or "unknown"


def cpus() -> float:
    """Processors that this program may use: fewer than the machine's where a mask or a cgroup says so."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read(_CGROUP / "cpu.max").partition(" ")
    if not quota:
        quota, period = _read(_CGROUP / "cpu/cpu.cfs_quota_us"), _read(_CGROUP / "cpu/cpu.cfs_period_us")
    if quota.isdigit() and period.isdigit() and int(period):
        return min(float(affinity), round(int(quota) / int(period), 2))
    return float(affinity)


def memory_b() -> int:
    """Memory that tasks may use: the machine's, or less where a cgroup says so."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [_read(_CGROUP / "memory.max"), _read(_CGROUP / "memory/memory.limit_in_bytes")]
    return min([whole, *(int(limit) for limit in limits if limit.isdigit())])


def nvidia_gpus(library: str | None = None) -> tuple[tuple[Gpu, ...], str]:
    """NVIDIA GPUs in the order of their numbers, and their driver's version: none if no driver answers.

    The driver's `library` is asked first, then its program, which knows of GPUs that this process' library does not.
    """
    nvml = open_nvml(library)
    if nvml is None:
        return _gpus_of_smi()
    try:
        cards, driver = nvml.cards(), nvml.driver()
    finally:
        nvml.close()
    return tuple(Gpu(short_name(card.name), card.memory_b) for card in cards), driver


def _gpus_of_smi() -> tuple[tuple[Gpu, ...], str]:
    words = _output("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits")
    rows = [[part.strip() for part in line.rsplit(",", 2)] for line in words.splitlines()]
    gpus = tuple(Gpu(short_name(row[0]), int(row[1]) * _MIB) for row in rows if len(row) == 3 and row[1].isdigit())
    return gpus, rows[0][2] if gpus else ""


def own_address(url: str) -> str:
    """The address of this machine from which it reaches the server: by it, others find its tasks."""
    parts = urlsplit(url)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe_socket:
            probe_socket.connect((parts.hostname or "127.0.0.1", parts.port or 443))  # sends nothing
            return str(probe_socket.getsockname()[0])
    except OSError:
        return "127.0.0.1"


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _output(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
