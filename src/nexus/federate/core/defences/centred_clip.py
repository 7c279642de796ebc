"""Updates are clipped around the last round's: v + mean of (x_i - v) * min(1, limit / |x_i - v|), `steps` times.

Karimireddy, He & Jaggi, Learning from History for Byzantine Robust Optimization, 2021. Everything happens in the
span of the updates and v, whose inner products are all that is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nexus.federate.core.algorithm import Vectors
from nexus.federate.core.defence import Combined, Scene
from nexus.federate.core.mixture import clip_factors
from nexus.federate.core.stack import Stack
from nexus.federate.core.total import Total
from nexus.kernel.errors import UsageError


@dataclass(frozen=True)
class CentredClip:
    """`limit` is an L2 norm; 0: the median distance from the centre."""

    limit: float = 0.0
    steps: int = 3

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if self.limit < 0 or self.steps < 1:
            raise UsageError("defence.limit must be 0 or more, steps 1 or more", hint="0: the median distance.")

    def keeps(self, sends: dict[str, int], clients: int) -> dict[str, int]:
        return sends

    def combine(self, stack: Stack, memory: Vectors, scene: Scene) -> Combined:
        count = len(stack)
        rows = [*stack.rows, memory]
        gram = Stack([*stack.clients, -1], [*stack.weights, 0.0], rows).gram()
        centre = np.zeros(count + 1)
        centre[count] = 1.0  # the last round's
        factors = np.ones(count)
        for _ in range(self.steps):
            away = np.diag(gram) - 2 * gram @ centre + centre @ gram @ centre
            factors = clip_factors(np.sqrt(np.maximum(away[:count], 0.0)), self.limit)
            moved = centre * (1.0 - factors.mean())
            moved[:count] += factors / count
            centre = moved
        found = Stack([*stack.clients, -1], [1.0] * (count + 1), rows).total(centre)
        notes = {client: {"trust": float(by)} for client, by in zip(stack.clients, factors, strict=True)}
        return Combined(Total.of(found.sums, weight=1.0, count=count), memory=dict(found.sums), notes=notes)
