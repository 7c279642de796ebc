"""FedAvgM: momentum on the server.

Hsu et al., Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification, 2019,
section 4.2: v = momentum * v + D; x = x + lr * v, where D is FedAvg's mean change. momentum = 0 is FedAvg.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nexus.federate.core.algorithm import State, Vector
from nexus.federate.core.algorithms.fedavg import FedAvg
from nexus.federate.core.plain import moved
from nexus.kernel.errors import UsageError

if TYPE_CHECKING:
    from nexus.federate.core.total import Total


@dataclass(frozen=True)
class FedAvgM(FedAvg):
    """Federated averaging with server momentum: steps in one direction grow up to 1 / (1 - momentum) times."""

    momentum: float = 0.9
    lr: float = 1.0

    def __post_init__(self) -> None:
        """Raises UsageError."""
        super().__post_init__()
        if not 0 <= self.momentum < 1:
            raise UsageError("algorithm.momentum must be from 0 to below 1", hint="0 is FedAvg; try 0.9.")

    def begin(self, model: Vector, *, trainable: int, clients: int) -> State:
        extra = {"velocity": model[:trainable] * 0}
        return State(number=0, model=model, trainable=trainable, clients=clients, extra=extra)

    def advance(self, state: State, total: Total) -> State:
        mean = total.mean("delta")
        velocity = self.momentum * state.extra["velocity"] + mean[: state.trainable]
        extra = state.extra | {"velocity": velocity}
        return replace(state, number=state.number + 1, model=moved(state, self.lr * velocity, mean), extra=extra)
