"""The median of every coordinate: what less than half of the clients send cannot move it far.

Yin et al., Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates, 2018, option I.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nexus.federate.core.algorithm import Vectors
from nexus.federate.core.defence import Combined, Scene
from nexus.federate.core.stack import Stack
from nexus.federate.core.total import Total


@dataclass(frozen=True)
class Median:
    """Coordinate-wise median. Clients count alike, whatever they say of their samples."""

    def keeps(self, sends: dict[str, int], clients: int) -> dict[str, int]:
        return {}

    def combine(self, stack: Stack, memory: Vectors, scene: Scene) -> Combined:
        sums = {name: np.empty(length, np.float32) for name, length in stack.lengths.items()}
        for name, place in sums.items():
            for part, values in stack.chunks(name):
                place[part] = np.median(values, axis=0)
        return Combined(Total.of(sums, weight=1.0, count=len(stack)))
