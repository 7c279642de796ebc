"""Updates are clipped, and a little noise hides what is left of one client's: against backdoors, not for privacy.

Sun et al., Can You Really Backdoor Federated Learning?, 2019, section 5. For privacy with a guarantee see `privacy`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nexus.federate.core.algorithm import Vectors
from nexus.federate.core.defence import Combined, Scene
from nexus.federate.core.defences.norm_clip import NormClip
from nexus.federate.core.stack import Stack
from nexus.federate.core.total import Total


@dataclass(frozen=True)
class WeakDp(NormClip):
    """`sigma`: the noise on each parameter of the mean."""

    sigma: float = 0.002

    def combine(self, stack: Stack, memory: Vectors, scene: Scene) -> Combined:
        clipped = super().combine(stack, memory, scene)
        sums = dict(clipped.total.sums)
        noise = np.random.default_rng(scene.seed).standard_normal(len(sums["delta"]), np.float32)
        sums["delta"] = sums["delta"] + noise * np.float32(self.sigma * clipped.total.weight)
        return Combined(Total.of(sums, weight=clipped.total.weight, count=len(stack)), notes=clipped.notes)
