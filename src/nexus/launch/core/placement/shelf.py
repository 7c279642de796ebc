"""How the index keeps rooms: kinds of machine, shelves of nodes alike, stacks of about equal free amounts.

A **kind** is a size of machine at one risk: its accelerators, roughly its processors and memory, spot or not. All its
nodes charge a task about the same share of their price. A **shelf** holds a kind's nodes of one place: project, region,
isolation, and the labels that somebody asks for. A **stack** holds a shelf's rooms with the same number of free
accelerators and roughly the same free processors and memory, cheapest first. A kind's **ladder** for a rung (so many
free accelerators, or so many free processors) sorts its shelves by the best room that each has there: so the cheapest
place is near its beginning, whatever else there is.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import NamedTuple

from nexus.launch.core.placement.room import MICRO, Entry, Room
from nexus.launch.model import Gpu

LATE = 4096  # above every count of accelerators: of equal price, what exists goes before what must be started
FULL = 2048  # rooms on one shelf: beyond, another one stands beside it

Head = tuple[float, int, float, str, str, "Shelf"]  # price, tie, load, name, id: the best room of a shelf, for a rung


def cpu_class(micro: int) -> int:
    """0 for none, 1 below one processor, then one class for each doubling."""
    return 0 if micro <= 0 else 1 + (micro // MICRO).bit_length()


def memory_class(memory_b: int) -> int:
    """0 for none, 1 below 256 MiB, then one class for each doubling."""
    return 0 if memory_b <= 0 else 1 + (memory_b >> 28).bit_length()


Cheap = tuple[float, str, str, Room]  # price, name, id


class Cell:
    """A kind's rooms on one fast network, cheapest first."""

    __slots__ = ("flags", "rooms")

    def __init__(self) -> None:
        self.rooms: list[Cheap] = []
        self.flags = 0  # of their shelves, and of some where they were


class Size(NamedTuple):
    """What makes a kind."""

    gpus: tuple[Gpu, ...]
    cpu_class: int
    memory_class: int
    spot: bool
    reclaims_per_h: float | None
    start_s: float
    late: int


class Place(NamedTuple):
    """What makes a shelf of a kind."""

    project: str  # whose runs may use them; empty: everybody's
    region: str
    isolation: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]


class Span:
    """From the least to the most that any of a kind's nodes has. Only ever widens."""

    __slots__ = ("high", "low")

    def __init__(self) -> None:
        self.low, self.high = float("inf"), float("-inf")

    def widen(self, value: float) -> bool:
        """Whether it did."""
        if self.low <= value <= self.high:
            return False
        self.low, self.high = min(self.low, value), max(self.high, value)
        return True


class Kind:
    """Machines of one size and risk."""

    __slots__ = (
        "bits",
        "cpu",
        "cpu_rungs",
        "disk_b",
        "gpu_rungs",
        "gpus",
        "ladders",
        "memory_b",
        "mixed",
        "networks",
        "shelves",
        "size",
        "spot",
        "wear",
    )

    def __init__(self, size: Size) -> None:
        self.size = size
        self.gpus = len(size.gpus)
        self.spot = size.spot
        self.wear: tuple[object, float] = (None, 1.0)  # by what prices are multiplied, under which policy (see `Ask`)
        self.mixed = len(set(size.gpus)) > 1  # several kinds of accelerator in one machine
        self.cpu, self.memory_b, self.disk_b = Span(), Span(), Span()
        self.bits = 0  # of its shelves
        self.shelves: list[Shelf] = []
        self.networks: dict[str, Cell] = {}
        self.ladders: dict[int, list[Head]] = {}
        self.gpu_rungs: list[int] = []  # the ladders that somebody asked for, most first
        self.cpu_rungs: list[int] = []

    def ladder(self, rung: int) -> list[Head]:
        """The shelves by their best room. `rung`: so many free accelerators, or -1 less a class of processors."""
        ladder = self.ladders.get(rung)
        if ladder is None:
            ladder = self.ladders[rung] = []
            rungs = self.gpu_rungs if rung > 0 else self.cpu_rungs
            rungs.append(rung)
            rungs.sort(key=abs, reverse=True)
            for shelf in self.shelves:
                shelf.refresh()
        return ladder


class Stack:
    """Rooms of one shelf with the same free accelerators, and roughly the same free processors and memory."""

    __slots__ = ("cpu_class", "entries", "gpus", "memory_class", "most_b", "most_cpu")

    def __init__(self, gpus: int, cpu: int, memory: int) -> None:
        self.gpus, self.cpu_class, self.memory_class = gpus, cpu, memory
        self.entries: list[Entry] = []
        self.most_cpu, self.most_b = 0, 0  # no room here has more: an upper bound, made true again by `tighten`

    def tighten(self) -> None:
        """After a search found nothing: what is too much for every room is not looked for here again."""
        self.most_cpu = max((entry[4].cpu for entry in self.entries), default=0)
        self.most_b = max((entry[4].memory_b for entry in self.entries), default=0)


class Shelf:
    """Nodes alike in all that requests tell apart, but for price and what is free."""

    __slots__ = ("flag", "kind", "place", "rooms", "rungs", "stacks", "stale")

    def __init__(self, kind: Kind, place: Place, flag: int) -> None:
        self.kind, self.place, self.flag = kind, place, flag
        self.rooms: dict[str, Room] = {}
        self.stacks: dict[int, Stack] = {}
        self.rungs: dict[int, Head] = {}
        self.stale = False

    def __lt__(self, other: Shelf) -> bool:
        return self.flag < other.flag  # while a node moves from shelf to shelf, both may name it as their best

    def add(self, room: Room) -> None:
        """A room that stands on no shelf."""
        room.shelf, room.kind, room.flag = self, self.kind, self.flag
        self.rooms[room.node.id] = room
        node = room.node
        if node.network:
            cell = self.kind.networks.setdefault(node.network, Cell())
            cell.flags |= self.flag
            insort(cell.rooms, (node.price, node.name, node.id, room))
        self.sort_in(room)

    def remove(self, room: Room) -> None:
        """Undo `add`."""
        if not room.loose:
            self.take_out(room)
        room.shelf = None
        node, networks = room.node, self.kind.networks
        del self.rooms[node.id]
        if node.network:
            cheap = networks[node.network].rooms
            del cheap[bisect_left(cheap, (node.price, node.name, node.id, room))]
            if not cheap:
                del networks[node.network]

    def unnamed(self) -> list[Room]:
        """Its rooms on no fast network."""
        return [room for room in self.rooms.values() if not room.node.network]

    def sort_in(self, room: Room) -> None:
        """Into the stack that its free amounts belong to."""
        gpus, cpu, memory = room.gpus.bit_count(), cpu_class(room.cpu), memory_class(room.memory_b)
        key = gpus << 16 | cpu << 8 | memory
        stack = self.stacks.get(key)
        if stack is None:
            stack = self.stacks[key] = Stack(gpus, cpu, memory)
        node = room.node
        entry = (node.price, room.load, node.name, node.id, room)
        at = bisect_left(stack.entries, entry)
        stack.entries.insert(at, entry)
        if not at:
            self.stale = True
        stack.most_cpu = max(stack.most_cpu, room.cpu)
        stack.most_b = max(stack.most_b, room.memory_b)
        room.stack, room.entry = stack, entry

    def take_out(self, room: Room) -> None:
        """Undo `sort_in`."""
        stack, entry = room.stack, room.entry
        at = bisect_left(stack.entries, entry)
        del stack.entries[at]
        if not at:
            self.stale = True
            if not stack.entries:
                del self.stacks[stack.gpus << 16 | stack.cpu_class << 8 | stack.memory_class]

    def refresh(self) -> None:
        """Bring the kind's ladders up to date."""
        self.stale = False
        if self.kind.gpu_rungs:
            late = self.kind.size.late
            best = self._best("gpus")
            head: Head | None = None
            for rung in self.kind.gpu_rungs:
                while best and best[-1][0] >= rung:
                    gpus, entry = best.pop()
                    if head is None or entry[0] <= head[0]:  # of equal price, fewer free is better
                        head = (entry[0], late + gpus, entry[1], entry[2], entry[3], self)
                self._set(rung, head)
        if self.kind.cpu_rungs:
            best = self._best("cpu_class")
            least: Entry | None = None
            for rung in self.kind.cpu_rungs:
                while best and best[-1][0] >= -1 - rung:
                    entry = best.pop()[1]
                    if least is None or entry < least:
                        least = entry
                self._set(rung, least and (least[0], self.kind.size.late, least[1], least[2], least[3], self))

    def _best(self, what: str) -> list[tuple[int, Entry]]:
        """The first room for each number of free accelerators, or class of processors; the largest number last."""
        best: dict[int, Entry] = {}
        for stack in self.stacks.values():
            amount, entry = getattr(stack, what), stack.entries[0]
            known = best.get(amount)
            if known is None or entry < known:
                best[amount] = entry
        return sorted(best.items())

    def _set(self, rung: int, head: Head | None) -> None:
        old = self.rungs.get(rung)
        if old == head:
            return
        ladder = self.kind.ladders[rung]
        if old is not None:
            del ladder[bisect_left(ladder, old)]
            del self.rungs[rung]
        if head is not None:
            insort(ladder, head)
            self.rungs[rung] = head
