"""Whoever is much farther from the middle than the others is left out of the round.

The 3-sigma rule of Han et al., Kick Bad Guys Out! Conditionally Activated Anomaly Detection in Federated Learning,
2023, with the median and its absolute deviation (times 1.4826) in place of mean and deviation: among ten values
none is ever three standard deviations away from their mean. Distances are from the geometric median.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nexus.federate.core.algorithm import Vectors
from nexus.federate.core.defence import Combined, Scene
from nexus.federate.core.defences.geometric_median import GeometricMedian
from nexus.federate.core.mixture import weighted
from nexus.federate.core.stack import Stack
from nexus.kernel.errors import UsageError


@dataclass(frozen=True)
class ThreeSigma:
    """`sigmas`: how many deviations are too many."""

    sigmas: float = 3.0

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if not self.sigmas > 0:
            raise UsageError("defence.sigmas must be above 0", hint="3: a good client of 400 is left out.")

    def keeps(self, sends: dict[str, int], clients: int) -> dict[str, int]:
        return {}

    def combine(self, stack: Stack, memory: Vectors, scene: Scene) -> Combined:
        gram = stack.gram()
        notes = GeometricMedian().combine(stack, {}, scene).notes
        share = stack.weights * np.array([notes[client]["trust"] for client in stack.clients])
        share = share / share.sum()
        away = np.sqrt(np.maximum(np.diag(gram) - 2 * gram @ share + share @ gram @ share, 0.0))
        middle = np.median(away)
        deviation = 1.4826 * np.median(np.abs(away - middle))
        return weighted(stack, (away <= middle + self.sigmas * deviation + 1e-9 * middle).astype(np.float64))
