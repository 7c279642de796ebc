"""Inner product manipulation: bad clients send the opposite of the honest ones' mean, so that the sum goes backwards.

Xie, Koyejo & Gupta, Fall of Empires: Breaking Byzantine-tolerant SGD by Inner Product Manipulation, 2020:
-scale * mean of the honest updates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nexus.federate.core.attack import Attack
from nexus.federate.core.stack import Stack
from nexus.federate.core.total import Array


@dataclass(frozen=True)
class Ipm(Attack):
    """A small `scale` (0.5) slips through defences by distance; a large one turns the mean around."""

    scale: float = 5.0
    conspires = True

    def conspired(self, honest: Stack, everybody: int, bad: int) -> Array:
        return honest.total([1.0] * len(honest)).mean("delta") * np.float32(-self.scale)
