"""Changes of `part` of all coordinates travel, drawn anew for every client and round.

Konecny et al., Federated Learning: Strategies for Improving Communication Efficiency, 2016 (random masks); Stich et al.
2018 with memory. Without memory the values are divided by `part`, which makes the mean right and its variance large.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nexus.federate.core.algorithm import Vector
from nexus.federate.core.compression.top_k import TopK


@dataclass(frozen=True)
class RandomK(TopK):
    """A random `part` of all coordinates. Right in the mean as it is, so that it needs no memory."""

    memory: float = 0.0

    def squeeze(self, wanted: Vector, dice: Any) -> Vector:
        count = max(1, round(self.part * len(wanted)))
        chosen = dice.permutation(len(wanted))[:count]
        sent = np.zeros_like(wanted)
        sent[chosen] = wanted[chosen] if self.memory else wanted[chosen] * np.float32(len(wanted) / count)
        return sent
