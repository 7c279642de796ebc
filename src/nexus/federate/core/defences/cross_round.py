"""A client is compared with what it sent the last time, and with what everybody learned in the last round.

The cross-round check of Han et al., Kick Bad Guys Out!, 2023, by cosines: an update that is almost the last one
again (above `most`) comes from a client that does not train; one that points away from both (below `least`) is bad.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nexus.federate.core.algorithm import Vectors
from nexus.federate.core.defence import Combined, Scene
from nexus.federate.core.mixture import sketch_length, sketches, weighted
from nexus.federate.core.stack import Stack
from nexus.kernel.errors import UsageError


@dataclass(frozen=True)
class CrossRound:
    """Nobody is judged in the first round."""

    most: float = 0.98
    least: float = -0.1

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if not -1 <= self.least < self.most <= 1:
            raise UsageError("defence.least must be below most, both from -1 to 1", hint="They are cosines.")

    def keeps(self, sends: dict[str, int], clients: int) -> dict[str, int]:
        length = sketch_length(sends)
        return {"own": length * clients, "mean": length}

    def combine(self, stack: Stack, memory: Vectors, scene: Scene) -> Combined:
        own = memory["own"].reshape(scene.clients, -1).copy()
        now = sketches(stack)
        before = own[list(stack.clients)]
        with_own, with_mean = _cosine(now, before), _cosine(now, memory["mean"][None, :])
        lazy = with_own > self.most
        away = np.where(before.any(axis=1), (with_own < self.least) | (with_mean < self.least), with_mean < self.least)
        found = weighted(stack, (~(lazy | away)).astype(np.float64))
        own[list(stack.clients)] = now
        kept = {"delta": found.total.mean("delta")}
        mean = sketches(Stack([0], [1.0], [kept]))[0]
        return Combined(found.total, memory={"own": own.reshape(-1), "mean": mean}, notes=found.notes)


def _cosine(left: NDArray[np.floating], right: NDArray[np.floating]) -> NDArray[np.floating]:
    """Row by row; 0 where there is nothing to compare with."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / np.maximum(norms, 1e-24))
