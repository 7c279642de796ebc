"""SCAFFOLD: control variates cancel the drift of clients whose data differ.

Karimireddy et al., SCAFFOLD: Stochastic Controlled Averaging for Federated Learning, 2020, algorithm 1 with option II:
clients step along g - c_i + c, and c_i becomes c_i - c + (x - y_i) / (steps * lr). `lr` is the server's rate (eta_g).
The mean is uniform over the cohort, as in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nexus.federate.core.algorithm import State, Step, Trainer, Vector, Vectors
from nexus.federate.core.algorithms.fedavg import FedAvg

if TYPE_CHECKING:
    from nexus.federate.core.total import Total


@dataclass(frozen=True)
class Scaffold(FedAvg):
    """Stochastic controlled averaging. Clients keep a vector of the model's size between rounds."""

    def begin(self, model: Vector, *, trainable: int, clients: int) -> State:
        zero = model[:trainable] * 0
        return State(number=0, model=model, trainable=trainable, clients=clients, extra={"control": zero})

    def plan(self, state: State) -> dict[str, Vector]:
        return {"model": state.model, "control": state.extra["control"]}

    def sends(self, state: State) -> dict[str, int]:
        return {"delta": len(state.model), "control": state.trainable}

    def keeps(self, state: State) -> dict[str, int]:
        return {"control": state.trainable}

    def local(self, plan: Vectors, trainer: Trainer, kept: Vectors) -> Step:
        own, shared = kept["control"], plan["control"]
        correction = shared - own

        def correct(_: Vector, gradient: Vector) -> None:
            gradient += correction

        fit = trainer.fit(plan["model"], correct)
        # (x - y_i) / (steps * lr), where y_i - x is the change of the parameters
        change = fit.weights * (-1.0 / (fit.steps * fit.lr)) - shared
        return Step({"delta": fit.delta, "control": change}, fit.loss, keep={"control": own + change})

    def weight(self, samples: int) -> float:
        return 1.0

    def advance(self, state: State, total: Total) -> State:
        part = total.count / state.clients
        control = state.extra["control"] + part * total.mean("control")
        model = state.model + self.lr * total.mean("delta")
        return replace(state, number=state.number + 1, model=model, extra=state.extra | {"control": control})
