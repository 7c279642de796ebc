"""FedSGD: clients send the gradient of their whole data, and the server makes one step along the mean.

McMahan et al. 2017, section 2, with C-fraction: x = x - lr * sum_k n_k/n g_k. Clients do not train, so `local` settings
do nothing; it is the base line that FedAvg saves rounds against.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nexus.federate.core.algorithm import State, Step, Trainer, Vectors
from nexus.federate.core.algorithms.fedavg import FedAvg
from nexus.federate.core.plain import moved

if TYPE_CHECKING:
    from nexus.federate.core.total import Total


@dataclass(frozen=True)
class FedSGD(FedAvg):
    """Large-batch gradient descent, of rate `lr`. What clients send is the negative gradient."""

    lr: float = 0.5

    def local(self, plan: Vectors, trainer: Trainer, kept: Vectors) -> Step:
        found = trainer.gradient(plan["model"])
        vector = found.vector  # in the memory of `whole`
        vector *= -1.0
        return Step({"delta": found.whole}, found.loss)

    def advance(self, state: State, total: Total) -> State:
        mean = total.mean("delta")
        change = self.lr * mean[: state.trainable]
        return replace(state, number=state.number + 1, model=moved(state, change, mean))
