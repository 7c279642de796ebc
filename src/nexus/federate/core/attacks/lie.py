"""A little is enough: bad clients stay just within what honest ones differ, and pull the same way.

Baruch, Baruch & Goldberg, A Little Is Enough: Circumventing Defenses For Distributed Learning, 2019, algorithm 3:
with n clients of which m are bad, s = floor(n / 2 + 1) - m honest ones must be won over, z is the largest value
with Phi(z) < (n - m - s) / (n - m), and everybody bad sends mean - z * deviation of the honest updates, by
coordinate.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from nexus.federate.core.attack import Attack
from nexus.federate.core.stack import Stack
from nexus.federate.core.total import Array


@dataclass(frozen=True)
class Lie(Attack):
    """`z` 0: as the equation says; it is never below `least`."""

    z: float = 0.0
    least: float = 0.3
    conspires = True

    def conspired(self, honest: Stack, everybody: int, bad: int) -> Array:
        needed = everybody // 2 + 1 - bad
        part = (everybody - bad - needed) / (everybody - bad)
        found = NormalDist().inv_cdf(part) if 0 < part < 1 else self.least
        z = np.float32(self.z or max(found, self.least))
        sent = np.empty(honest.lengths["delta"], np.float32)
        for at, values in honest.chunks("delta"):
            sent[at] = values.mean(axis=0) - z * values.std(axis=0)
        return sent
