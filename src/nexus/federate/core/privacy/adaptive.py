"""Central differential privacy whose clip norm follows the clients: it learns a quantile of their updates' norms.

Andrew et al., Differentially Private Learning with Adaptive Clipping, 2021, algorithm 1: each client says whether its
update was within the norm C (as b - 1/2), the server averages that with noise, and C becomes
C * exp(-rate * (mean of b - quantile)). The noise on updates is a little larger, so that both together cost what
`noise` says: noise_delta = (noise^-2 - (2 * counting)^-2)^-1/2, with `counting` the noise on the sum of b.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from nexus.federate.core.algorithm import State, Step, Trainer, Vector, Vectors
from nexus.federate.core.privacy.central import Central
from nexus.federate.core.privacy.clipping import clipped, norm
from nexus.federate.core.total import Array, Total
from nexus.kernel.errors import UsageError

_CLIP, _WITHIN = "privacy.clip", "privacy.within"


@dataclass(frozen=True)
class Adaptive(Central):
    """`clip` is where the norm starts. `counting` 0: a twentieth of the cohort, or as little as `noise` allows."""

    quantile: float = 0.5
    rate: float = 0.2
    counting: float = 0.0

    def __post_init__(self) -> None:
        """Raises UsageError."""
        super().__post_init__()
        if not 0 < self.quantile < 1:
            raise UsageError("privacy.quantile must be above 0 and below 1", hint="0.5: the median of the norms.")
        if not self.rate > 0:
            raise UsageError("privacy.rate must be above 0", hint="0.2 is the paper's.")
        if self.counting and self.counting <= self.noise / 2:
            hint = "Leave it out: it is chosen for the cohort."
            raise UsageError("privacy.counting must be above half of privacy.noise", hint=hint)

    def begin(self, model: Vector, *, trainable: int, clients: int) -> State:
        state = self.inner.begin(model, trainable=trainable, clients=clients)
        return replace(state, extra=state.extra | {_CLIP: np.array([self.clip], np.float32)})

    def plan(self, state: State) -> dict[str, Vector]:
        return self.inner.plan(state) | {_CLIP: state.extra[_CLIP]}

    def sends(self, state: State) -> dict[str, int]:
        return self.inner.sends(state) | {_WITHIN: 1}

    def local(self, plan: Vectors, trainer: Trainer, kept: Vectors) -> Step:
        step = self.inner.local(plan, trainer, kept)
        bound = float(plan[_CLIP][0])
        within = 0.5 if norm(step.send) <= bound else -0.5
        return replace(step, send=clipped(step.send, bound) | {_WITHIN: np.array([within], np.float32)})

    def received(self, plan: Vectors, update: Vectors) -> Vectors:
        rest = {name: vector for name, vector in update.items() if name != _WITHIN}
        within: Array = np.clip(update[_WITHIN], -0.5, 0.5)
        return clipped(self.inner.received(plan, rest), float(plan[_CLIP][0])) | {_WITHIN: within}

    def advance(self, state: State, total: Total) -> State:
        bound, (counting, noise) = float(state.extra[_CLIP][0]), self._shares()
        deviations = {name: noise * bound for name in total.sums if name != _WITHIN} | {_WITHIN: counting}
        noised = self.noised(state, total, deviations)
        part = float(noised.mean(_WITHIN)[0]) + 0.5
        following = bound * math.exp(-self.rate * (part - self.quantile))
        own = {name: vector for name, vector in noised.sums.items() if name != _WITHIN}
        advanced = self.inner.advance(state, Total.of(own, weight=noised.weight, count=noised.count))
        return replace(advanced, extra=advanced.extra | {_CLIP: np.array([following], np.float32)})

    def notes(self, state: State) -> dict[str, float]:
        return super().notes(state) | {"clip": float(state.extra[_CLIP][0])}

    def _shares(self) -> tuple[float, float]:
        """The noise on the count, and on the updates over their norm."""
        if not self.noise:
            return 0.0, 0.0
        counting = self.counting or max(self.draws.cohort / 20, self.noise)
        return counting, (self.noise**-2 - (2 * counting) ** -2) ** -0.5
