"""What makes two tasks alike for placement: everything that a place depends on, as one hashable value."""

from __future__ import annotations

from typing import NamedTuple

from nexus.launch.model import RolePlan


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
    project: str  # whose nodes; empty: everybody's


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
        "container" if role.image else "",
        project,
    )
