"""Central differential privacy: clients' updates are clipped, and the server adds noise to their sum.

McMahan et al., Learning Differentially Private Recurrent Language Models, 2018: the sum of updates, each of L2 norm
`clip` at most, gets Gaussian noise of deviation `noise * clip`. Clients trust the server with their updates; nobody
need trust who sees the model. The server clips again what it receives, so a client that does not clip gains nothing by
it. Losses and sample counts in the rounds' record are the server's own notes: they are not protected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from nexus.federate.core.algorithm import State, Step, Trainer, Vectors
from nexus.federate.core.draws import Sampling
from nexus.federate.core.privacy.budget import Budget
from nexus.federate.core.privacy.clipping import clipped
from nexus.federate.core.privacy.noise import gaussian
from nexus.federate.core.total import Array, Total


@dataclass(frozen=True)
class Central(Budget):
    """Gaussian noise on the sum, once, by the server."""

    def local(self, plan: Vectors, trainer: Trainer, kept: Vectors) -> Step:
        step = self.inner.local(plan, trainer, kept)
        return replace(step, send=clipped(step.send, self.clip))

    def received(self, plan: Vectors, update: Vectors) -> Vectors:
        return clipped(self.inner.received(plan, update), self.clip)

    def advance(self, state: State, total: Total) -> State:
        return self.inner.advance(state, self.noised(state, total, dict.fromkeys(total.sums, self.noise * self.clip)))

    def noised(self, state: State, total: Total, deviations: Mapping[str, float]) -> Total:
        """The total with noise on each sum. Poisson's mean is over the cohort that was expected: who came is secret."""
        sums: dict[str, Array] = {}
        for name, deviation in deviations.items():
            key = self.draws.key(self.seed, "privacy", state.number + 1, name, seeded=bool(self.seeded))
            sums[name] = total.sums[name] + gaussian(len(total.sums[name]), deviation, key)
        if self.draws.sampling is Sampling.POISSON:
            return Total.of(sums, weight=float(self.draws.cohort), count=self.draws.cohort)
        return Total.of(sums, weight=total.weight, count=total.count)
