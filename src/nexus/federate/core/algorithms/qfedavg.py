"""q-FedAvg: clients whose loss is high count more, so that the model serves all of them more alike.

Li et al., Fair Resource Allocation in Federated Learning, 2020, algorithm 2, with L = 1/lr of local training:
D_k = F_k^q L (x - w_k), h_k = q F_k^(q-1) |L (x - w_k)|^2 + L F_k^q, and x = x - sum D_k / sum h_k,
where F_k is the client's loss at x. q = 0 is FedAvg with clients that count alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nexus.federate.core.algorithm import State, Step, Trainer, Vectors
from nexus.federate.core.plain import Plain, moved
from nexus.kernel.errors import UsageError

if TYPE_CHECKING:
    from nexus.federate.core.total import Total

_LEAST = 1e-10  # a loss of zero has no power below zero


@dataclass(frozen=True)
class QFedAvg(Plain):
    """Fair federated averaging; the larger `q`, the fairer."""

    q: float = 0.1

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if not self.q >= 0:
            raise UsageError("algorithm.q must be 0 or more", hint="0 is FedAvg; try 0.1 to 5.")

    def sends(self, state: State) -> dict[str, int]:
        return {"delta": len(state.model), "curvature": 1}

    def local(self, plan: Vectors, trainer: Trainer, kept: Vectors) -> Step:
        start = plan["model"]
        loss = max(trainer.gradient(start).loss, _LEAST)
        fit = trainer.fit(start)
        rate = 1.0 / fit.lr
        square = rate**2 * float(fit.weights @ fit.weights)
        curvature = fit.delta[:1] * 0.0 + (self.q * loss ** (self.q - 1) * square + rate * loss**self.q)
        weights = fit.weights  # in the memory of `delta`
        weights *= rate * loss**self.q
        return Step({"delta": fit.delta, "curvature": curvature}, fit.loss)

    def weight(self, samples: int) -> float:
        return 1.0

    def advance(self, state: State, total: Total) -> State:
        mean = total.mean("delta")
        change = mean[: state.trainable] / total.mean("curvature")
        return replace(state, number=state.number + 1, model=moved(state, change, mean))
