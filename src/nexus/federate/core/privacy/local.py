"""Local differential privacy: each client clips and adds noise before anything leaves it, so it need trust nobody.

Gaussian: the L2 norm is bounded by `clip`, the noise has deviation `noise * clip` (Dwork and Roth 2014, appendix A).
Laplace: the L1 norm is bounded by `clip`, the noise has scale `noise * clip` (Dwork et al. 2006). Two updates differ by
twice the bound at most. Epsilon is that of a client that took part in every round so far.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from nexus.federate.core.algorithm import State, Step, Trainer, Vectors
from nexus.federate.core.privacy.accounting import Spending
from nexus.federate.core.privacy.budget import Budget
from nexus.federate.core.privacy.clipping import clipped
from nexus.federate.core.privacy.noise import gaussian, laplace


@dataclass(frozen=True)
class Local(Budget):
    """Gaussian noise on each client."""

    def local(self, plan: Vectors, trainer: Trainer, kept: Vectors) -> Step:
        step = self.inner.local(plan, trainer, kept)
        short = clipped(step.send, self.clip, 1 if self._laplace else 2)
        draw = laplace if self._laplace else gaussian
        send = {}
        for name, vector in short.items():
            path = ("privacy", trainer.number, trainer.client, name)
            key = self.draws.key(self.seed, *path, seeded=bool(self.seeded))
            send[name] = vector + draw(len(vector), self.noise * self.clip, key)
        return replace(step, send=send)

    def _spending(self, state: State) -> Spending:
        return self._every_round(state, laplace=self._laplace)

    @property
    def _laplace(self) -> bool:
        return False


@dataclass(frozen=True)
class LocalLaplace(Local):
    """Laplace noise on each client."""

    @property
    def _laplace(self) -> bool:
        return True
