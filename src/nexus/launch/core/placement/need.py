"""What makes two tasks alike for placement: everything that a place depends on, as one hashable value."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple

from nexus.launch.model import Capacity, Gpu, RolePlan


class Need(NamedTuple):
    """A class of need. What blocks one task of a class blocks them all, until room that could fit it appears."""

    cpu: float
    cpu_most: float | None
    memory_b: int
    memory_most_b: float | None
    disk_b: float
    disk_most_b: float | None
    gpus: int
    gpu_names: tuple[str, ...]
    gpu_memory_b: tuple[float | None, float | None]
    labels: tuple[tuple[str, str], ...]
    regions: tuple[str, ...]
    spot: str
    isolation: str  # what the node must be able to do; empty: nothing but a process
    project: str  # who asks: its own nodes count, and those that are shared; empty: all do


def need_key(role: RolePlan, project: str = "") -> Need:
    """The class that the role's tasks belong to, on the nodes of `project` (empty: of all projects)."""
    needs = role.needs
    gpu = needs.gpu
    return Need(
        needs.cpu.least,
        needs.cpu.high,
        int(needs.memory_b.least),
        needs.memory_b.high,
        needs.disk_b.least,
        needs.disk_b.high,
        gpu.count,
        gpu.names if gpu.count else (),
        (gpu.memory_b.low, gpu.memory_b.high) if gpu.count else (None, None),
        tuple(sorted(needs.labels.items())) if needs.labels else (),
        needs.regions,
        needs.spot,
        role.isolation or ("container" if role.image else ""),
        project,
    )


def share_of(need: Need, gpus: int, cpu: float, memory_b: float) -> float:
    """The largest share that such a task holds of a node of this size.

    A task that says nothing of its needs counts as one cpu.
    """
    shares = (
        need.gpus / gpus if gpus else 0.0,
        (need.cpu or (0.0 if need.gpus else 1.0)) / cpu if cpu else 1.0,
        need.memory_b / memory_b if memory_b else 0.0,
    )
    return min(1.0, max(shares))


def gpu_fits(names: tuple[str, ...], memory_b: tuple[float | None, float | None], gpu: Gpu) -> bool:
    """Names are globs, without regard to case, over any part of the vendor's name: `A100` fits `NVIDIA A100-SXM4`."""
    low, high = memory_b
    if (low is not None and gpu.memory_b < low) or (high is not None and gpu.memory_b > high):
        return False
    name = gpu.name.lower()
    return not names or any(fnmatchcase(name, f"*{glob.lower()}*") for glob in names)


def fitting_gpus(need: Need, gpus: tuple[Gpu, ...]) -> int:
    """The accelerators that fit, as bits."""
    fits = {gpu: gpu_fits(need.gpu_names, need.gpu_memory_b, gpu) for gpu in dict.fromkeys(gpus)}
    return sum(1 << index for index, gpu in enumerate(gpus) if fits[gpu])


def large_enough(need: Need, capacity: Capacity) -> bool:
    """Whether a node's size is within the ranges that the need gives."""
    return (
        capacity.cpu >= need.cpu
        and (need.cpu_most is None or capacity.cpu <= need.cpu_most)
        and capacity.memory_b >= need.memory_b
        and (need.memory_most_b is None or capacity.memory_b <= need.memory_most_b)
        and capacity.disk_b >= need.disk_b
        and (need.disk_most_b is None or capacity.disk_b <= need.disk_most_b)
    )
