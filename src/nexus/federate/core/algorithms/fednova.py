"""FedNova: clients that made more steps do not pull the model further towards what they want.

Wang et al., Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization, 2020, equation 6 for
plain SGD: with d_i = (x - y_i) / tau_i after tau_i steps, and p_i the client's part of the samples,
x = x - lr * (sum p_i tau_i) * sum p_i d_i. FedAvg instead minimises a sum whose weights are p_i tau_i.
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
class FedNova(FedAvg):
    """Normalised averaging. Clients send how many steps they made beside the mean change of a step."""

    def sends(self, state: State) -> dict[str, int]:
        return {"delta": len(state.model), "steps": 1}

    def local(self, plan: Vectors, trainer: Trainer, kept: Vectors) -> Step:
        fit = trainer.fit(plan["model"])
        steps = fit.delta[:1] * 0.0 + fit.steps
        weights = fit.weights  # in the memory of `delta`
        weights *= 1.0 / fit.steps
        return Step({"delta": fit.delta, "steps": steps}, fit.loss)

    def advance(self, state: State, total: Total) -> State:
        mean = total.mean("delta")
        change = self.lr * total.mean("steps") * mean[: state.trainable]
        return replace(state, number=state.number + 1, model=moved(state, change, mean))
