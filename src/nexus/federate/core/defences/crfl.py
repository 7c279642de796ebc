"""The model itself is kept short and blurred, so that no planted trigger is certain to survive.

Xie et al., CRFL: Certifiably Robust Federated Learning against Backdoor Attacks, 2021, algorithm 1: after each
round the model is scaled down to the norm `limit` and gets Gaussian noise `sigma`. (Its certificates by smoothing
at test time are another matter, and not here.) For algorithms whose step is the mean of the updates.
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
class Crfl:
    """`limit` is the L2 norm of the whole model."""

    limit: float = 15.0
    sigma: float = 0.002

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if not self.limit > 0 or self.sigma < 0:
            raise UsageError("defence.limit must be above 0, sigma 0 or more", hint="15 and 0.002 are the defaults.")

    def keeps(self, sends: dict[str, int], clients: int) -> dict[str, int]:
        return {}

    def combine(self, stack: Stack, memory: Vectors, scene: Scene) -> Combined:
        total = stack.total()
        sums = {name: total.mean(name) for name in total.sums}
        model = scene.model + sums["delta"]
        norm = float(np.linalg.norm(model.astype(np.float64)))
        noise = np.random.default_rng(scene.seed).standard_normal(len(model), np.float32)
        model = model * np.float32(min(1.0, self.limit / max(norm, 1e-12))) + noise * np.float32(self.sigma)
        sums["delta"] = model - scene.model
        return Combined(Total.of(sums, weight=1.0, count=len(stack)))
