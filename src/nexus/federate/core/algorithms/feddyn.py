"""FedDyn: every client's loss is bent so that all of them are least where the mean of all losses is.

Acar et al., Federated Learning Based on Dynamic Regularization, 2021, algorithm 1: a client minimises
L_k(w) - <g_k, w> + (alpha/2) |w - x|^2, then g_k becomes g_k - alpha (w_k - x). The server keeps
h = h - alpha (1/m) sum over the cohort of (w_k - x), and x becomes mean(w_k) - h / alpha. Clients count alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nexus.federate.core.algorithm import State, Step, Trainer, Vector, Vectors
from nexus.federate.core.plain import Plain, moved
from nexus.kernel.errors import UsageError

if TYPE_CHECKING:
    from nexus.federate.core.total import Total


@dataclass(frozen=True)
class FedDyn(Plain):
    """Dynamic regularisation of strength `alpha`. Clients keep a vector of the model's size between rounds."""

    alpha: float = 0.1

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if not self.alpha > 0:
            raise UsageError("algorithm.alpha must be above 0", hint="Try 0.001 to 0.1.")

    def begin(self, model: Vector, *, trainable: int, clients: int) -> State:
        extra = {"dual": model[:trainable] * 0}
        return State(number=0, model=model, trainable=trainable, clients=clients, extra=extra)

    def keeps(self, state: State) -> dict[str, int]:
        return {"dual": state.trainable}

    def local(self, plan: Vectors, trainer: Trainer, kept: Vectors) -> Step:
        start, dual = plan["model"], kept["dual"]
        lean = dual + self.alpha * start[: len(dual)]

        def bend(weights: Vector, gradient: Vector) -> None:
            gradient += self.alpha * weights - lean

        fit = trainer.fit(start, bend)
        return Step({"delta": fit.delta}, fit.loss, keep={"dual": dual - self.alpha * fit.delta[: len(dual)]})

    def weight(self, samples: int) -> float:
        return 1.0

    def advance(self, state: State, total: Total) -> State:
        mean = total.mean("delta")
        change = mean[: state.trainable]
        dual = state.extra["dual"] - self.alpha * (total.count / state.clients) * change
        model = moved(state, change - dual / self.alpha, mean)
        return replace(state, number=state.number + 1, model=model, extra=state.extra | {"dual": dual})
