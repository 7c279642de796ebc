"""A trimmed mean, of which the model takes only a part: what a bad round does is half undone by the next.

Xie, Koyejo & Gupta, SLSGD: Secure and Efficient Distributed On-device Machine Learning, 2019, option II:
model + alpha * trimmed mean.
"""

from __future__ import annotations

from dataclasses import dataclass

from nexus.federate.core.algorithm import Vectors
from nexus.federate.core.defence import Combined, Scene
from nexus.federate.core.defences.trimmed_mean import TrimmedMean
from nexus.federate.core.stack import Stack
from nexus.federate.core.total import Total
from nexus.kernel.errors import UsageError


@dataclass(frozen=True)
class Slsgd(TrimmedMean):
    """`alpha`: the part of each step that is taken."""

    alpha: float = 0.8

    def __post_init__(self) -> None:
        """Raises UsageError."""
        super().__post_init__()
        if not 0 < self.alpha <= 1:
            raise UsageError("defence.alpha must be above 0 and at most 1", hint="1 is a plain trimmed mean.")

    def combine(self, stack: Stack, memory: Vectors, scene: Scene) -> Combined:
        found = super().combine(stack, memory, scene)
        return Combined(Total.of(found.total.sums, weight=1.0 / self.alpha, count=len(stack)))
