"""Whether one node can take one task of a role, and in words why not."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase

from nexus.kernel.units import Range, format_bytes
from nexus.launch.core.placement.need import fitting_gpus, need_key, share_of
from nexus.launch.core.placement.room import Room, micro
from nexus.launch.model import Capacity, Needs, Node, NodeState, RolePlan


def misfit(role: RolePlan, node: Node) -> str:
    """Why this node could never take the role, however free it were; empty when it could."""
    needs, capacity = role.needs, node.capacity
    return (
        _state(node)
        or _labels(needs, node)
        or _region(needs, node)
        or _spot(needs, node)
        or _isolation(role, node)
        or _size("cpu", needs.cpu, capacity.cpu, _number)
        or _size("memory", needs.memory_b, capacity.memory_b, format_bytes)
        or _size("disk", needs.disk_b, capacity.disk_b, format_bytes)
        or _gpus(role, capacity)
    )


def shortage(role: RolePlan, room: Room) -> str:
    """Why a node that would fit cannot take the role now; empty when it can."""
    needs, capacity = role.needs, room.node.capacity
    if micro(needs.cpu.least) > room.cpu:
        free_cpu = _number(max(0.0, room.cpu_free))
        return f"needs {_number(needs.cpu.least)} cpu; {free_cpu} of {_number(capacity.cpu)} are free"
    if needs.memory_b.least > room.memory_b:
        free, total = format_bytes(max(0, room.memory_b)), format_bytes(capacity.memory_b)
        return f"needs {format_bytes(needs.memory_b.least)} memory; {free} of {total} are free"
    if needs.gpu.count:
        fitting = fitting_gpus(need_key(role), capacity.gpus)
        free_count = (room.gpus & fitting).bit_count()
        if free_count < needs.gpu.count:
            return f"needs {needs.gpu.count} gpu; {free_count} of the {fitting.bit_count()} that fit are free"
    return ""


def price_of(role: RolePlan, node: Node) -> float:
    """What one task of the role costs there per hour: the largest share of the node that it holds, of its price."""
    capacity = node.capacity
    return node.price * share_of(need_key(role), len(capacity.gpus), capacity.cpu, capacity.memory_b)


def _state(node: Node) -> str:
    return "" if node.state is NodeState.ONLINE else f"is {node.state}"


def _labels(needs: Needs, node: Node) -> str:
    if not needs.labels:
        return ""
    wrong = [
        f"{name} is {node.labels[name]!r}" if name in node.labels else f"has no label {name}"
        for name, value in sorted(needs.labels.items())
        if node.labels.get(name) != value
    ]
    wanted = ", ".join(f"{name}={value}" for name, value in sorted(needs.labels.items()))
    return f"needs {wanted}; {', '.join(wrong)}" if wrong else ""


def _region(needs: Needs, node: Node) -> str:
    if not needs.regions or any(fnmatchcase(node.region, glob) for glob in needs.regions):
        return ""
    return f"needs region {' or '.join(needs.regions)}; is in {node.region or 'no known region'}"


def _spot(needs: Needs, node: Node) -> str:
    if needs.spot == "never" and node.spot:
        return "is a spot machine, which may be reclaimed"
    return "is not a spot machine" if needs.spot == "only" and not node.spot else ""


def _isolation(role: RolePlan, node: Node) -> str:
    wanted = need_key(role).isolation
    if not wanted or wanted in node.isolation:
        return ""
    if role.image:
        return f"has no container engine for the image {role.image}"
    return f"has no {wanted}"


def _size(what: str, need: Range, has: float, show: Callable[[float], str]) -> str:
    if has < need.least:
        return f"needs {show(need.least)} {what}; has {show(has)}"
    return (
        f"wants at most {show(need.high)} {what}; has {show(has)}" if need.high is not None and has > need.high else ""
    )


def _gpus(role: RolePlan, capacity: Capacity) -> str:
    needs = role.needs
    if not needs.gpu.count or fitting_gpus(need_key(role), capacity.gpus).bit_count() >= needs.gpu.count:
        return ""
    words = [" or ".join(needs.gpu.names) or "gpu"]
    if needs.gpu.memory_b.low is not None:
        words.append(f"with {format_bytes(needs.gpu.memory_b.low)} or more")
    if needs.gpu.memory_b.high is not None:
        words.append(f"with at most {format_bytes(needs.gpu.memory_b.high)}")
    has = ", ".join(f"{gpu.name} ({format_bytes(gpu.memory_b)})" for gpu in capacity.gpus) or "no gpu"
    return f"needs {needs.gpu.count} {' '.join(words)}; has {has}"


def _number(value: float) -> str:
    return f"{value:g}"
