"""Krum chooses, and of the chosen the middle of every coordinate counts.

El Mhamdi, Guerraoui & Rouault, The Hidden Vulnerability of Distributed Learning in Byzantium, 2018: of n >= 4f + 3
updates, t = n - 2f are taken by Krum, one after another; each coordinate is the mean of the t - 2f values that are
closest to its median.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nexus.federate.core.algorithm import Vectors
from nexus.federate.core.defence import Combined, Scene
from nexus.federate.core.defences.krum import scores
from nexus.federate.core.mixture import check_bad, enough, told
from nexus.federate.core.stack import Stack
from nexus.federate.core.total import Total


@dataclass(frozen=True)
class Bulyan:
    """`bad`: the part of a cohort that may be bad, below a quarter."""

    bad: float = 0.1

    def __post_init__(self) -> None:
        """Raises UsageError."""
        check_bad(self.bad)

    def keeps(self, sends: dict[str, int], clients: int) -> dict[str, int]:
        return {}

    def combine(self, stack: Stack, memory: Vectors, scene: Scene) -> Combined:
        bad = int(self.bad * len(stack))
        enough(stack, 4 * bad + 3, "bulyan")
        distances = stack.distances()
        far = distances.sum(axis=1)
        left = list(range(len(stack)))
        taken: list[int] = []
        while len(taken) < len(stack) - 2 * bad:
            by = scores(distances[np.ix_(left, left)], bad) if len(left) >= bad + 4 else far[left]  # pairs would tie
            best = left[int(np.argmin(by))]
            taken.append(best)
            left.remove(best)
        trust = np.zeros(len(stack))
        trust[taken] = 1.0
        middle = len(taken) - 2 * bad
        sums = {name: np.empty(length, np.float32) for name, length in stack.lengths.items()}
        some = stack.only(sorted(taken))
        for name, place in sums.items():
            for part, values in some.chunks(name):
                away = np.abs(values - np.median(values, axis=0))
                near = np.argpartition(away, middle - 1, axis=0)[:middle]
                place[part] = np.take_along_axis(values, near, axis=0).mean(axis=0)
        return Combined(Total.of(sums, weight=1.0, count=len(stack)), notes=told(stack, trust))
