"""Where clients do not agree on a direction, the server goes the other way.

Ozdayi, Kantarcioglu & Gel, Defending against Backdoors in Federated Learning with Robust Learning Rate, 2021: a
coordinate's step is turned around when |sum of the updates' signs| < agree * n.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nexus.federate.core.algorithm import Vectors
from nexus.federate.core.defence import Combined, Scene
from nexus.federate.core.stack import Stack
from nexus.federate.core.total import Total
from nexus.kernel.errors import UsageError


@dataclass(frozen=True)
class RobustLr:
    """`agree`: the majority, as a part of the cohort, that a direction needs."""

    agree: float = 0.4

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if not 0 <= self.agree <= 1:
            raise UsageError("defence.agree must be from 0 to 1", hint="More than twice the part that may be bad.")

    def keeps(self, sends: dict[str, int], clients: int) -> dict[str, int]:
        return {}

    def combine(self, stack: Stack, memory: Vectors, scene: Scene) -> Combined:
        total = stack.total()
        sums = {name: total.mean(name) for name in total.sums}
        for part, values in stack.chunks("delta"):
            votes = np.abs(np.sign(values).sum(axis=0))
            sums["delta"][part] *= np.where(votes < self.agree * len(stack), np.float32(-1), np.float32(1))
        return Combined(Total.of(sums, weight=1.0, count=len(stack)))
