"""What is free on one node. Amounts are whole numbers, so that the order of changes leaves no trace."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from nexus.launch.model import Node, Task

if TYPE_CHECKING:
    from nexus.launch.core.placement.shelf import Kind, Shelf, Stack

MICRO = 1_000_000  # processors are counted in millionths, as whole numbers: sums are exact in any order

Entry = tuple[float, float, str, str, "Room"]  # price, load, name, id: the order of a stack
State = tuple[int, int, int, int]


def micro(cpu: float) -> int:
    """Millionths of a processor."""
    return round(cpu * MICRO)


class Room:
    """A node, and what is free of it. Only `Rooms` changes one, but for a search, which restores what it took."""

    __slots__ = (
        "all_gpus",
        "cpu",
        "entry",
        "flag",
        "gpus",
        "held",
        "kind",
        "loose",
        "memory_b",
        "node",
        "offer",
        "shelf",
        "size",
        "stack",
        "start_s",
        "tasks",
    )

    kind: Kind
    flag: int
    stack: Stack
    entry: Entry

    def __init__(self, node: Node, held: Iterable[Task] = (), *, offer: str = "", start_s: float = 0.0) -> None:
        self.node = node
        self.offer = offer  # the id of an offer that the node stands for
        self.start_s = start_s
        self.all_gpus = (1 << len(node.capacity.gpus)) - 1
        self.size = node.capacity.cpu or 1.0
        self.held: dict[str, tuple[int, int, int]] = {}  # task -> millionths of a cpu, bytes, accelerators as bits
        self.cpu = micro(node.capacity.cpu)
        self.memory_b = node.capacity.memory_b
        self.gpus = self.all_gpus
        self.tasks = 0
        self.shelf: Shelf | None = None  # where the index keeps it, if it does: then also what is named above
        self.loose = False  # on its shelf, but in no stack until the next question
        for task in held:
            self.hold(task)

    def hold(self, task: Task) -> None:
        """A task holds what its record says."""
        bits = 0
        for gpu in task.gpus:
            bits |= 1 << gpu
        cpu = micro(task.cpu)
        self.held[task.id] = (cpu, task.memory_b, bits)
        self.cpu -= cpu
        self.memory_b -= task.memory_b
        self.gpus &= ~bits
        self.tasks += 1

    def let_go(self, task_id: str) -> None:
        """Undo `hold`."""
        cpu, memory_b, bits = self.held.pop(task_id)
        self.cpu += cpu
        self.memory_b += memory_b
        self.tasks -= 1
        if bits:
            taken = 0
            for _, _, others in self.held.values():
                taken |= others
            self.gpus = self.all_gpus & ~taken

    @property
    def state(self) -> State:
        """What is free, for `restore`."""
        return self.cpu, self.memory_b, self.gpus, self.tasks

    def restore(self, state: State) -> None:
        """As it was."""
        self.cpu, self.memory_b, self.gpus, self.tasks = state

    @property
    def load(self) -> float:
        """How full it is; by tasks, for those that reserve nothing, weighed by how large the node is."""
        return max(self.tasks / self.size, 1.0 - self.cpu / (self.size * MICRO))

    @property
    def cpu_free(self) -> float:
        """Processors."""
        return self.cpu / MICRO


def lowest(bits: int, count: int) -> tuple[int, ...]:
    """The `count` lowest set bits, or as many as there are."""
    found: list[int] = []
    while bits and len(found) < count:
        low = bits & -bits
        found.append(low.bit_length() - 1)
        bits ^= low
    return tuple(found)
