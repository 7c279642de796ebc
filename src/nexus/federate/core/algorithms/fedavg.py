"""FedAvg: clients train, the server takes the mean of their changes weighted by samples.

McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data, 2017, algorithm 1;
`lr` is the server's rate (eta_g) of Reddi et al. 2021, 1 in the original.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nexus.federate.core.algorithm import State, Step, Trainer, Vector, Vectors
from nexus.kernel.errors import UsageError

if TYPE_CHECKING:
    from nexus.federate.core.packing import Packing
    from nexus.federate.core.total import Total


@dataclass(frozen=True)
class FedAvg:
    """Federated averaging."""

    lr: float = 1.0

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if not self.lr > 0:
            raise UsageError("algorithm.lr must be above 0", hint="1 is plain averaging.")

    def begin(self, model: Vector, *, trainable: int, clients: int) -> State:
        return State(number=0, model=model, trainable=trainable, clients=clients)

    def plan(self, state: State) -> dict[str, Vector]:
        return {"model": state.model}

    def sends(self, state: State) -> dict[str, int]:
        return {"delta": len(state.model)}

    def keeps(self, state: State) -> dict[str, int]:
        return {}

    def local(self, plan: Vectors, trainer: Trainer, kept: Vectors) -> Step:
        fit = trainer.fit(plan["model"])
        return Step({"delta": fit.delta}, fit.loss)

    def weight(self, samples: int) -> float:
        return float(samples)

    def advance(self, state: State, total: Total) -> State:
        return replace(state, number=state.number + 1, model=state.model + self.lr * total.mean("delta"))

    def packing(self, state: State) -> dict[str, Packing]:
        return {}

    def notes(self, state: State) -> dict[str, float]:
        return {}

    def over(self, state: State) -> str:
        return ""
