"""The point with the least sum of distances to all updates: half of them may be anywhere.

Pillutla, Kakade & Harchaoui, Robust Aggregation for Federated Learning (RFA), 2019: the smoothed Weiszfeld
algorithm, z = sum b_i x_i / sum b_i with b_i = w_i / max(nu, |x_i - z|), `steps` times. All distances follow from
the updates' inner products, so that the updates are read twice, however many steps there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nexus.federate.core.algorithm import Vectors
from nexus.federate.core.defence import Combined, Scene
from nexus.federate.core.mixture import weighted
from nexus.federate.core.stack import Stack
from nexus.kernel.errors import UsageError


@dataclass(frozen=True)
class GeometricMedian:
    """`nu` is the distance below which an update pulls no more strongly, as a part of the median norm."""

    steps: int = 10
    nu: float = 1e-3

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if self.steps < 1 or not self.nu > 0:
            raise UsageError("defence.steps must be 1 or more, nu above 0", hint="10 steps come close.")

    def keeps(self, sends: dict[str, int], clients: int) -> dict[str, int]:
        return {}

    def combine(self, stack: Stack, memory: Vectors, scene: Scene) -> Combined:
        gram = stack.gram()
        norms = np.diag(gram)
        least = self.nu * float(np.sqrt(np.median(norms))) or 1e-12
        apart = np.sqrt(np.maximum(norms[:, None] + norms[None, :] - 2 * gram, 0.0))
        pull = 1.0 / np.maximum(np.median(apart, axis=1), least)  # begin where most are: the mean may be far away
        for _ in range(self.steps):
            share = stack.weights * pull
            share = share / share.sum()
            away = np.sqrt(np.maximum(norms - 2 * gram @ share + share @ gram @ share, 0.0))
            pull = 1.0 / np.maximum(away, least)
        return weighted(stack, pull / pull.max())
