"""The mean of every coordinate without its lowest and its highest values.

Yin et al., Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates, 2018, option II.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nexus.federate.core.algorithm import Vectors
from nexus.federate.core.defence import Combined, Scene
from nexus.federate.core.mixture import check_bad
from nexus.federate.core.stack import Stack
from nexus.federate.core.total import Total


def trimmed(stack: Stack, cut: int) -> Total:
    """The coordinates' means without the `cut` lowest and the `cut` highest values."""
    sums = {name: np.empty(length, np.float32) for name, length in stack.lengths.items()}
    for name, place in sums.items():
        for part, values in stack.chunks(name):
            place[part] = np.sort(values, axis=0)[cut : len(stack) - cut].mean(axis=0)
    return Total.of(sums, weight=1.0, count=len(stack))


@dataclass(frozen=True)
class TrimmedMean:
    """`bad`: the part of a cohort that is cut off on either side. Clients count alike."""

    bad: float = 0.2

    def __post_init__(self) -> None:
        """Raises UsageError."""
        check_bad(self.bad)

    def keeps(self, sends: dict[str, int], clients: int) -> dict[str, int]:
        return {}

    def combine(self, stack: Stack, memory: Vectors, scene: Scene) -> Combined:
        return Combined(trimmed(stack, int(self.bad * len(stack))))
