"""The update that lies closest to its neighbours, or the mean of several such.

Blanchard et al., Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent, 2017: with n updates of
which f are bad, the score of one is the sum of its squared distances to its n - f - 2 nearest; n >= 2f + 3. Multi-
Krum is the mean of the n - f updates with the lowest scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nexus.federate.core.algorithm import Vectors
from nexus.federate.core.defence import Combined, Scene
from nexus.federate.core.mixture import Numbers, check_bad, chosen, enough
from nexus.federate.core.stack import Stack


def scores(distances: Numbers, bad: int) -> Numbers:
    """The sum of each one's squared distances to its n - f - 2 nearest others (one at least)."""
    count = len(distances)
    near = np.sort(distances, axis=1)[:, 1 : 1 + max(1, count - bad - 2)]  # the first is the distance to itself
    return np.asarray(near.sum(axis=1))


@dataclass(frozen=True)
class Krum:
    """`bad`: the part of a cohort that may be bad."""

    bad: float = 0.2

    def __post_init__(self) -> None:
        """Raises UsageError."""
        check_bad(self.bad)

    def keeps(self, sends: dict[str, int], clients: int) -> dict[str, int]:
        return {}

    def combine(self, stack: Stack, memory: Vectors, scene: Scene) -> Combined:
        return chosen(stack, self._best(stack, 1))

    def _best(self, stack: Stack, keep: int) -> list[int]:
        bad = int(self.bad * len(stack))
        enough(stack, 2 * bad + 3, "krum")
        order = np.argsort(scores(stack.distances(), bad), kind="stable")
        return sorted(int(at) for at in order[:keep])


@dataclass(frozen=True)
class MultiKrum(Krum):
    """The mean of all but the `bad` part with the highest scores."""

    def combine(self, stack: Stack, memory: Vectors, scene: Scene) -> Combined:
        return chosen(stack, self._best(stack, len(stack) - int(self.bad * len(stack))))
