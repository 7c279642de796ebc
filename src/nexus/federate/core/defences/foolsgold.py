"""Clients that always say the same as others are one person with many names: they count less, the more alike they are.

Fung, Yoon & Beschastnikh, The Limitations of Federated Learning in Sybil Settings, 2020, algorithm 1: cosines of
the sums of all that each client has sent, pardoned, scaled, and through a logit. The sums are kept as sketches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nexus.federate.core.algorithm import Vectors
from nexus.federate.core.defence import Combined, Scene
from nexus.federate.core.mixture import Numbers, cosines, sketch_length, sketches, weighted
from nexus.federate.core.stack import Stack


def trusted(alike: Numbers) -> Numbers:
    """From cosines of all pairs to how much each counts, 0 to 1."""
    alike = alike - np.diag(np.diag(alike))
    most = alike.max(axis=1)
    pardoned = alike * np.minimum(1.0, most[:, None] / np.where(most > 0, most, 1.0)[None, :])
    trust = np.clip(1.0 - pardoned.max(axis=1), 0.0, 1.0)
    trust = trust / max(float(trust.max()), 1e-12)
    trust = np.clip(trust, 1e-9, 0.99)
    return np.asarray(np.clip(np.log(trust / (1.0 - trust)) + 0.5, 0.0, 1.0))


@dataclass(frozen=True)
class FoolsGold:
    """It holds against any number of sybils, and not against a single bad client."""

    def keeps(self, sends: dict[str, int], clients: int) -> dict[str, int]:
        return {"history": sketch_length(sends) * clients}

    def combine(self, stack: Stack, memory: Vectors, scene: Scene) -> Combined:
        history = memory["history"].reshape(scene.clients, -1).copy()
        here = list(stack.clients)
        history[here] += sketches(stack)
        wide = history[here].astype(np.float64)
        found = weighted(stack, trusted(cosines(wide @ wide.T)))
        return Combined(found.total, memory={"history": history.reshape(-1)}, notes=found.notes)
