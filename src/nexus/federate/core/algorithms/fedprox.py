"""FedProx: FedAvg whose clients are held near the global model by (mu/2) * |w - w_global|^2.

Li et al., Federated Optimization in Heterogeneous Networks, 2020, equation 2. mu = 0 is FedAvg.
"""

from __future__ import annotations

from dataclasses import dataclass

from nexus.federate.core.algorithm import Step, Trainer, Vector, Vectors
from nexus.federate.core.algorithms.fedavg import FedAvg
from nexus.kernel.errors import UsageError


@dataclass(frozen=True)
class FedProx(FedAvg):
    """Federated averaging with a proximal term of strength `mu`."""

    mu: float = 0.01

    def __post_init__(self) -> None:
        """Raises UsageError."""
        super().__post_init__()
        if not self.mu >= 0:
            raise UsageError("algorithm.mu must be 0 or more", hint="0 is FedAvg; try 0.001 to 1.")

    def local(self, plan: Vectors, trainer: Trainer, kept: Vectors) -> Step:
        start = plan["model"]

        def pull(weights: Vector, gradient: Vector) -> None:
            gradient += self.mu * (weights - start[: len(weights)])

        fit = trainer.fit(start, pull if self.mu else None)
        return Step({"delta": fit.delta}, fit.loss)
