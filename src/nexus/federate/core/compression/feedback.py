"""What every way of compression shares: what did not travel this time is remembered, and added to the next update.

Seide et al., 1-Bit SGD, 2014; Karimireddy et al., Error Feedback Fixes SignSGD and other Gradient Compression Schemes,
2019. A subclass says what is left of a vector, and how that travels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nexus.federate.core.algorithm import State, Step, Trainer, Vector, Vectors
from nexus.federate.core.layer import Layer
from nexus.kernel.errors import UsageError

if TYPE_CHECKING:
    from nexus.federate.core.packing import Packing

_LEFT = "compression.left"


@dataclass(frozen=True)
class Feedback(Layer, ABC):
    """`memory` is the part of what was left out that is added to the client's next update: 0 forgets it all."""

    memory: float = 1.0

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if not 0 <= self.memory <= 1:
            raise UsageError("compression.memory must be from 0 to 1", hint="1 remembers all, 0 nothing.")

    @abstractmethod
    def squeeze(self, wanted: Vector, dice: Any) -> Vector:
        """What arrives of `wanted`: a vector of its own that `wire` packs without loss."""

    @abstractmethod
    def wire(self) -> Packing:
        """How such vectors travel."""

    def keeps(self, state: State) -> dict[str, int]:
        own = {_LEFT: len(state.model)} if self.memory else {}
        return self.inner.keeps(state) | own

    def local(self, plan: Vectors, trainer: Trainer, kept: Vectors) -> Step:
        step = self.inner.local(plan, trainer, kept)
        wanted = step.send["delta"]
        if self.memory:
            wanted = wanted + self.memory * kept[_LEFT]
        sent = self.squeeze(wanted, trainer.dice("compression"))
        keep = step.keep | ({_LEFT: wanted - sent} if self.memory else {})
        return replace(step, send=step.send | {"delta": sent}, keep=keep)

    def packing(self, state: State) -> dict[str, Packing]:
        return self.inner.packing(state) | {"delta": self.wire()}
