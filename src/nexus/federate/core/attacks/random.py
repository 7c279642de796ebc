"""Bad clients send noise, as long as what they learned times `scale`.

The Gaussian attack of Blanchard et al., Machine Learning with Adversaries, 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nexus.federate.core.attack import Attack


@dataclass(frozen=True)
class Random(Attack):
    """Gaussian."""

    scale: float = 3.0

    def lied(self, delta: Any, dice: Any) -> Any:
        noise = dice.standard_normal(len(delta), np.float32)
        return noise * np.float32(self.scale * np.linalg.norm(delta) / max(float(np.linalg.norm(noise)), 1e-12))
