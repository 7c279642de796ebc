"""Updates are tried on samples of the server's own, and the best ones count.

Xie, Koyejo & Gupta, Zeno: Distributed Stochastic Gradient Descent with Suspicion-based Fault-tolerance, 2019: score
= loss(model) - loss(model + delta) - rho * |delta|^2; the `bad` part with the lowest is left out. It holds even
where most clients are bad. Needs `Task.root`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nexus.federate.core.algorithm import Vectors
from nexus.federate.core.defence import Combined, Scene
from nexus.federate.core.mixture import chosen
from nexus.federate.core.stack import Stack
from nexus.kernel.errors import UsageError


@dataclass(frozen=True)
class Zeno:
    """`rho` punishes length, in units of the loss."""

    bad: float = 0.4
    rho: float = 0.0005

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if not 0 <= self.bad < 1 or self.rho < 0:
            raise UsageError("defence.bad must be from 0 to below 1, rho 0 or more", hint="0.4 leaves out two of five.")

    def keeps(self, sends: dict[str, int], clients: int) -> dict[str, int]:
        return {}

    def combine(self, stack: Stack, memory: Vectors, scene: Scene) -> Combined:
        eye = scene.eye()
        before = eye.score(scene.model)["loss"]
        after = [eye.score(scene.model + row["delta"])["loss"] for row in stack.rows]
        scores = before - np.nan_to_num(np.array(after), nan=np.inf) - self.rho * stack.norms() ** 2
        order = np.argsort(-scores, kind="stable")
        return chosen(stack, sorted(int(at) for at in order[: max(1, len(stack) - int(self.bad * len(stack)))]))
