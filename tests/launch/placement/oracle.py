"""Placement as a plain scan over all nodes: slow, short, and what the index must agree with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from nexus.launch.core.placement.fit import misfit, price_of, shortage
from nexus.launch.core.placement.need import gpu_fits, need_key
from nexus.launch.core.placement.room import Room
from nexus.launch.core.policy import Policy
from nexus.launch.model import Gpu, Node, RolePlan, RunPlan, Task

Choice = tuple[str, int, str, tuple[int, ...], float]  # role, index, node, accelerators, price


def ranked(role: RolePlan, node: Node, policy: Policy) -> float:
    """The price with what is expected to be lost when the machine is taken away."""
    often = node.reclaims_per_h
    if often is None:
        often = policy.spot_reclaims_per_h if node.spot else 0.0
    return price_of(role, node) * (1.0 + often * (policy.reclaim_loss_s + policy.restart_loss_s) / 3600.0)


def key(role: RolePlan, room: Room, style: str, policy: Policy) -> tuple[object, ...]:
    gpu = role.needs.gpu.count > 0
    free = room.gpus.bit_count() if gpu else 0
    packed = style == "pack" or (gpu and not style)
    if not packed:
        free = -free
    load = -room.load if packed and not gpu else room.load
    return ranked(role, room.node, policy), free, load, room.node.name, room.node.id


def scan(
    plan: RunPlan,
    wanted: Sequence[tuple[str, int]],
    nodes: Iterable[Node],
    held: Iterable[Task],
    *,
    policy: Policy,
    project: str = "",
    most: float = float("inf"),
) -> list[Choice] | None:
    """Greedy, role after role, hardest first; each task into the first of all rooms that fit."""
    held = list(held)
    rooms = [Room(node, [task for task in held if task.node == node.id]) for node in nodes]
    rooms = [room for room in rooms if not project or room.node.project == project]

    def ease(want: tuple[str, int]) -> tuple[float, ...]:
        needs = plan.role(want[0]).needs
        return (-needs.gpu.count, -needs.memory_b.least, -needs.cpu.least)

    chosen: list[Choice] = []
    for name, wants in groupby(sorted(wanted, key=ease), key=lambda want: want[0]):
        role = plan.role(name)
        for _, index in wants:
            fitting = [
                room
                for room in rooms
                if not misfit(role, room.node) and not shortage(role, room) and price_of(role, room.node) <= most
            ]
            if not fitting:
                return None
            room = min(fitting, key=lambda room: key(role, room, plan.placement, policy))
            gpus = tuple(
                at for at, gpu in enumerate(room.node.capacity.gpus) if room.gpus >> at & 1 and suits(role, gpu)
            )
            gpus = gpus[: role.needs.gpu.count]
            room.hold(
                Task(
                    id=f"new/{name}/{index}",
                    project="",
                    created=0.0,
                    run="",
                    role=name,
                    index=index,
                    attempt=0,
                    node=room.node.id,
                    epoch=0,
                    gpus=gpus,
                    cpu=role.needs.cpu.least,
                    memory_b=int(role.needs.memory_b.least),
                )
            )
            chosen.append((name, index, room.node.id, gpus, price_of(role, room.node)))
    at = {want: number for number, want in enumerate(wanted)}
    return sorted(chosen, key=lambda one: at[one[0], one[1]])


def suits(role: RolePlan, gpu: Gpu) -> bool:
    need = need_key(role)
    return gpu_fits(need.gpu_names, need.gpu_memory_b, gpu)
