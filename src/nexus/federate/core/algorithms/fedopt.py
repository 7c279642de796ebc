"""FedOpt: the mean change D is a gradient for an adaptive optimizer on the server.

Reddi et al., Adaptive Federated Optimization, 2021, algorithm 2: m = beta1 m + (1 - beta1) D;
x = x + lr * m / (sqrt(v) + tau), with v starting at tau^2, and

    Adagrad  v = v + D^2
    Adam     v = beta2 v + (1 - beta2) D^2
    Yogi     v = v - (1 - beta2) D^2 sign(v - D^2)

A model's buffers (running means) are no gradients: they take the plain mean.
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
class FedAdagrad(FedAvg):
    """Adagrad on the server. `tau` bounds how much a small change is amplified."""

    lr: float = 0.03
    beta1: float = 0.0
    tau: float = 0.001

    def __post_init__(self) -> None:
        """Raises UsageError."""
        super().__post_init__()
        if not 0 <= self.beta1 < 1:
            raise UsageError("algorithm.beta1 must be from 0 to below 1", hint="Try 0.9; 0 is no momentum.")
        if not self.tau > 0:
            raise UsageError("algorithm.tau must be above 0", hint="Try 0.001.")

    def begin(self, model: Vector, *, trainable: int, clients: int) -> State:
        zero = model[:trainable] * 0
        extra = {"momentum": zero, "variance": zero + self.tau**2}
        return State(number=0, model=model, trainable=trainable, clients=clients, extra=extra)

    def advance(self, state: State, total: Total) -> State:
        mean = total.mean("delta")
        change = mean[: state.trainable]
        momentum = self.beta1 * state.extra["momentum"] + (1 - self.beta1) * change
        variance = self.variance(state.extra["variance"], change**2)
        model = moved(state, self.lr * momentum / (variance**0.5 + self.tau), mean)
        extra = state.extra | {"momentum": momentum, "variance": variance}
        return replace(state, number=state.number + 1, model=model, extra=extra)

    def variance(self, last: Vector, square: Vector) -> Vector:
        """The next v, of the last one and D^2."""
        return last + square


@dataclass(frozen=True)
class FedAdam(FedAdagrad):
    """Adam on the server."""

    lr: float = 0.03
    beta1: float = 0.9
    beta2: float = 0.99

    def __post_init__(self) -> None:
        """Raises UsageError."""
        super().__post_init__()
        if not 0 <= self.beta2 < 1:
            raise UsageError("algorithm.beta2 must be from 0 to below 1", hint="Try 0.99.")

    def variance(self, last: Vector, square: Vector) -> Vector:
        return self.beta2 * last + (1 - self.beta2) * square


@dataclass(frozen=True)
class FedYogi(FedAdam):
    """Yogi on the server: v falls slowly where Adam forgets."""

    def variance(self, last: Vector, square: Vector) -> Vector:
        above = last > square
        return last - (1 - self.beta2) * square * above + (1 - self.beta2) * square * (last < square)
