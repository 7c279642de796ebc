"""What a protocol is to the rest: its options, the terms of a group, and the machines of both sides."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nexus.kernel.errors import UsageError

if TYPE_CHECKING:
    from nexus.federate.core.algorithm import Algorithm
    from nexus.federate.core.secure.coding import Coding
    from nexus.federate.core.secure.party import Client, Group, Server
    from nexus.federate.core.secure.primitives import Words


@dataclass(frozen=True)
class Scheme(ABC):
    """`clip`: updates are shortened to that L2 norm, which makes room for their sum.

    `samples`: what a client may weigh at most, so that how many it has is nobody's to know. `threshold`: the part of a
    neighbourhood that must be there to the end; above a half, or a server that cheats could split it.
    """

    clip: float = 10.0
    samples: float = 10_000.0
    threshold: float = 0.6

    modulus: ClassVar[int] = 2**32

    def __post_init__(self) -> None:
        """Raises UsageError."""
        rules = {
            "secure_aggregation.clip must be above 0": 0 < self.clip < math.inf,
            "secure_aggregation.samples must be 1 or more": 1 <= self.samples < math.inf,
            "secure_aggregation.threshold must be above 0.5 and at most 1": 0.5 < self.threshold <= 1,
        }
        for rule, holds in rules.items():
            if not holds:
                raise UsageError(rule, hint="The defaults bear that four of ten clients vanish.")

    def degree(self, members: int) -> int:
        """How many neighbours each of so many members has."""
        return members - 1

    def most_b(self, size: int, members: int) -> int:
        """The largest message of a client: its masked words, or the pieces that it hands out beforehand."""
        return 20 * size + 1_000 * members + 2**20

    def group(self, run: str, number: int, attempt: int, members: tuple[int, ...], size: int) -> Group:
        """The terms of one attempt at a round of `size` words."""
        from nexus.federate.core.secure.party import Group

        degree = self.degree(len(members))
        threshold = max(math.ceil(self.threshold * (degree + 1)), (degree + 1) // 2 + 1)
        return Group(run, number, attempt, members, degree, threshold, size)

    def coding(self, algorithm: Algorithm, lengths: Mapping[str, int], members: int) -> Coding:
        """How updates of that algorithm become words."""
        from nexus.federate.core.secure.coding import Coding

        return Coding(self.modulus, self.clip, algorithm.weight(int(self.samples)), members, lengths)

    @abstractmethod
    def server(self, group: Group) -> Server:
        """The machine in the middle."""

    @abstractmethod
    def client(
        self,
        group: Group,
        me: int,
        *,
        identity: bytes,
        roster: Mapping[int, bytes],
        words: Callable[[], Words],
        fresh: Callable[[], bytes],
    ) -> Client:
        """The machine of one client. Raises JobError for terms that protect nobody."""
