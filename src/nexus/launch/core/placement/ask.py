"""One question to the index: a class of need with the amounts it takes, and the order in which rooms are chosen."""

from __future__ import annotations

from nexus.launch.core.placement.need import Need, share_of
from nexus.launch.core.placement.room import Room, micro
from nexus.launch.core.placement.shelf import LATE, Kind, Size, cpu_class, memory_class
from nexus.launch.core.policy import Policy
from nexus.launch.model import Node

Key = tuple[float, float, float, str, str]  # price as ranked, tie, load, name, id


class Ask:
    """What a task of a class takes, and how rooms for it are ranked.

    Cheapest first, by what a machine is expected to cost: see `expected_wear`. Of equal price, what exists goes before
    offers; accelerators are packed (few left over) and everything else is spread (least loaded), unless `style` says
    otherwise.
    """

    __slots__ = (
        "copies",
        "cpu",
        "cpu_class",
        "gpus",
        "memory_b",
        "memory_class",
        "natural",
        "need",
        "policy",
        "rung",
        "style",
    )

    def __init__(self, need: Need, policy: Policy | None, style: str = "", copies: int = 1) -> None:
        self.need = need
        self.policy = policy  # None: ranked by what is paid per hour alone
        self.style = style or ("pack" if need.gpus else "spread")
        self.natural = self.style == ("pack" if need.gpus else "spread")  # the order in which stacks are kept
        self.copies = copies
        self.cpu = micro(need.cpu) * copies
        self.memory_b = need.memory_b * copies
        self.gpus = need.gpus * copies
        self.cpu_class = cpu_class(self.cpu)
        self.memory_class = memory_class(self.memory_b)
        self.rung = self.gpus or -1 - self.cpu_class

    def price(self, node: Node) -> float:
        """What one task costs there per hour."""
        capacity = node.capacity
        return node.price * share_of(self.need, len(capacity.gpus), capacity.cpu, capacity.memory_b)

    def wear(self, kind: Kind) -> float:
        """By what a price is multiplied to rank it."""
        if self.policy is None:
            return 1.0
        policy, wear = kind.wear
        if policy is not self.policy:
            wear = expected_wear(kind.size, self.policy)
            kind.wear = (self.policy, wear)
        return wear

    def key(self, room: Room, price: float, kind: Kind) -> Key:
        """Where a room stands in the order; `price` is what a task costs there."""
        tie, load = float(kind.size.late), room.load
        if self.need.gpus:
            free = room.gpus.bit_count()
            tie += free if self.style == "pack" else LATE // 2 - free
        elif self.style == "pack":
            load = -load
        return price * self.wear(kind), tie, load, room.node.name, room.node.id


def expected_wear(size: Size, policy: Policy) -> float:
    """By what a price is multiplied, since a machine may be taken away: work is done again, and another is started."""
    often = size.reclaims_per_h
    if often is None:
        often = policy.spot_reclaims_per_h if size.spot else 0.0
    return 1.0 + often * (policy.reclaim_loss_s + (size.start_s or policy.restart_loss_s)) / 3600.0
