"""Bad clients do not train: they send what they sent the last time, with a little noise, and want their reward.

The free riders of Fraboni, Vidal & Lorenzi, Free-rider Attacks on Model Aggregation in Federated Learning, 2021.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nexus.federate.core.algorithm import State, Step, Trainer, Vectors
from nexus.federate.core.attack import Attack

_LAST = "attack.last"


@dataclass(frozen=True)
class Lazy(Attack):
    """`noise` is a part of the update's length. The first time they have to train."""

    noise: float = 0.05

    def keeps(self, state: State) -> dict[str, int]:
        return self.inner.keeps(state) | {_LAST: self.sends(state)["delta"]}

    def local(self, plan: Vectors, trainer: Trainer, kept: Vectors) -> Step:
        step = super().local(plan, trainer, kept)
        return replace(step, keep={_LAST: kept[_LAST]} | step.keep)

    def attacked(self, plan: Vectors, trainer: Trainer, kept: Vectors) -> Step:
        step = self.inner.local(plan, trainer, kept)  # for the other vectors of an update; `delta` is the old one
        last = kept[_LAST] if kept[_LAST].any() else step.send["delta"].copy()
        noise = trainer.dice("attack").standard_normal(len(last), np.float32)
        part = np.float32(self.noise * np.linalg.norm(last) / max(float(np.linalg.norm(noise)), 1e-12))
        return replace(step, send=step.send | {"delta": last + noise * part}, keep=step.keep | {_LAST: last})
