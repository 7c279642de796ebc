"""The server trains on a few samples of its own, and trusts who goes the same way.

Cao et al., FLTrust: Byzantine-robust Federated Learning via Trust Bootstrapping, 2021: with g0 the server's own
update, trust_i = relu(cos(g_i, g0)), each g_i scaled to the length of g0, and their mean by trust. Needs
`Task.root`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nexus.federate.core.algorithm import Vectors
from nexus.federate.core.defence import Combined, Scene
from nexus.federate.core.mixture import cosines, told
from nexus.federate.core.stack import Stack
from nexus.federate.core.total import Total


@dataclass(frozen=True)
class FlTrust:
    """It holds even where most clients are bad."""

    def keeps(self, sends: dict[str, int], clients: int) -> dict[str, int]:
        return {}

    def combine(self, stack: Stack, memory: Vectors, scene: Scene) -> Combined:
        own = scene.eye().fit(scene.model, scene.number)
        both = [{"delta": row["delta"]} for row in stack.rows] + [{"delta": own}]
        gram = Stack([*stack.clients, -1], [1.0] * len(both), both).gram()
        norms = np.sqrt(np.diag(gram))
        trust = np.maximum(cosines(gram)[-1, :-1], 0.0)
        found = stack.total(trust * norms[-1] / np.maximum(norms[:-1], 1e-12))
        total = Total.of(found.sums, weight=float(trust.sum()) or 1.0, count=len(stack))
        return Combined(total, notes=told(stack, trust))
