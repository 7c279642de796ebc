"""Whether one node can take one task of a role, and in words why not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from nexus.kernel.units import Range, format_bytes
from nexus.launch.model import Capacity, Gpu, Needs, Node, NodeState, RolePlan, Task

CONTAINER = "container"  # what a node's `isolation` holds when it can run images


@dataclass(slots=True)
class Room:
    """What is still free of a node while tasks are given to it. Mutable: a search takes and gives back."""

    node: Node
    cpu: float
    memory_b: int
    gpus: frozenset[int]
    tasks: int = 0

    @classmethod
    def of(cls, node: Node, held: Iterable[Task]) -> Room:
        """The node less what its live tasks hold."""
        room = cls(node, node.capacity.cpu, node.capacity.memory_b, frozenset(range(len(node.capacity.gpus))))
        for task in held:
            room.cpu -= task.cpu
            room.memory_b -= task.memory_b
            room.gpus -= frozenset(task.gpus)
            room.tasks += 1
        return room

    def take(self, needs: Needs, gpus: tuple[int, ...]) -> None:
        """Reserve what one task needs."""
        self.cpu -= needs.cpu.least
        self.memory_b -= int(needs.memory_b.least)
        self.gpus -= frozenset(gpus)
        self.tasks += 1

    def give_back(self, needs: Needs, gpus: tuple[int, ...]) -> None:
        """Undo `take`."""
        self.cpu += needs.cpu.least
        self.memory_b += int(needs.memory_b.least)
        self.gpus |= frozenset(gpus)
        self.tasks -= 1


def misfit(role: RolePlan, node: Node) -> str:
    """Why this node could never take the role, however free it were; empty when it could."""
    needs, capacity = role.needs, node.capacity
    return (
        _state(node)
        or _labels(needs, node)
        or _region(needs, node)
        or _spot(needs, node)
        or _image(role, node)
        or _size("cpu", needs.cpu, capacity.cpu, _number)
        or _size("memory", needs.memory_b, capacity.memory_b, format_bytes)
        or _size("disk", needs.disk_b, capacity.disk_b, format_bytes)
        or _gpus(needs, capacity)
    )


def shortage(role: RolePlan, room: Room) -> str:
    """Why a node that would fit cannot take the role now; empty when it can."""
    needs, capacity = role.needs, room.node.capacity
    if needs.cpu.least > room.cpu + 1e-9:
        return f"needs {_number(needs.cpu.least)} cpu; {_number(room.cpu)} of {_number(capacity.cpu)} are free"
    if needs.memory_b.least > room.memory_b:
        free, total = format_bytes(max(0, room.memory_b)), format_bytes(capacity.memory_b)
        return f"needs {format_bytes(needs.memory_b.least)} memory; {free} of {total} are free"
    if needs.gpu.count and len(pick_gpus(needs, room)) < needs.gpu.count:
        fitting = [index for index, gpu in enumerate(capacity.gpus) if _fits(needs, gpu)]
        free_count = len(room.gpus.intersection(fitting))
        return f"needs {needs.gpu.count} gpu; {free_count} of the {len(fitting)} that fit are free"
    return ""


def pick_gpus(needs: Needs, room: Room) -> tuple[int, ...]:
    """The first free accelerators that fit; fewer than needed when there are not enough."""
    if not needs.gpu.count:
        return ()
    gpus = room.node.capacity.gpus
    fitting = (index for index in sorted(room.gpus) if _fits(needs, gpus[index]))
    return tuple(index for index, _ in zip(fitting, range(needs.gpu.count), strict=False))


def price_of(needs: Needs, node: Node) -> float:
    """Per hour: the largest share of the node that the task holds, times the node's price.

    A task that says nothing of its needs counts as one cpu.
    """
    if not node.price:
        return 0.0
    capacity = node.capacity
    shares = [
        needs.gpu.count / len(capacity.gpus) if capacity.gpus else 0.0,
        (needs.cpu.least or (0.0 if needs.gpu.count else 1.0)) / capacity.cpu if capacity.cpu else 1.0,
        needs.memory_b.least / capacity.memory_b if capacity.memory_b else 0.0,
    ]
    return node.price * min(1.0, max(shares))


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


def _image(role: RolePlan, node: Node) -> str:
    return (
        f"has no container engine for the image {role.image}" if role.image and CONTAINER not in node.isolation else ""
    )


def _size(what: str, need: Range, has: float, show: Callable[[float], str]) -> str:
    if has < need.least:
        return f"needs {show(need.least)} {what}; has {show(has)}"
    return (
        f"wants at most {show(need.high)} {what}; has {show(has)}" if need.high is not None and has > need.high else ""
    )


def _gpus(needs: Needs, capacity: Capacity) -> str:
    if not needs.gpu.count or sum(_fits(needs, gpu) for gpu in capacity.gpus) >= needs.gpu.count:
        return ""
    words = [" or ".join(needs.gpu.names) or "gpu"]
    if needs.gpu.memory_b.low is not None:
        words.append(f"with {format_bytes(needs.gpu.memory_b.low)} or more")
    if needs.gpu.memory_b.high is not None:
        words.append(f"with at most {format_bytes(needs.gpu.memory_b.high)}")
    has = ", ".join(f"{gpu.name} ({format_bytes(gpu.memory_b)})" for gpu in capacity.gpus) or "no gpu"
    return f"needs {needs.gpu.count} {' '.join(words)}; has {has}"


def _fits(needs: Needs, gpu: Gpu) -> bool:
    """Names are globs, without regard to case, over any part of the vendor's name: `A100` fits `NVIDIA A100-SXM4`."""
    name = gpu.name.lower()
    named = not needs.gpu.names or any(fnmatchcase(name, f"*{glob.lower()}*") for glob in needs.gpu.names)
    return named and needs.gpu.memory_b.holds(gpu.memory_b)


def _number(value: float) -> str:
    return f"{value:g}"
