"""Mime and MimeLite: clients step as the server's optimizer would, with its momentum held fixed during the round.

Karimireddy et al., Mime: Mimicking Centralized Stochastic Algorithms in Federated Learning, 2020, algorithm 1 with SGD
with momentum: a client steps along (1 - beta) g + beta m, where g is its batch's gradient (MimeLite), or that minus
the same batch's gradient at the global model x, plus c, the mean gradient at x (Mime). The server takes the mean of
the changes, and m = (1 - beta) c + beta m. Clients count alike.

The paper asks the cohort for c before it trains: two exchanges a round. Here it comes with the update, so the c that
Mime's clients are sent is the last round's; in the first round they train as MimeLite's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nexus.federate.core.algorithm import Adjust, State, Step, Trainer, Vector, Vectors
from nexus.federate.core.algorithms.fedavg import FedAvg
from nexus.kernel.errors import UsageError

if TYPE_CHECKING:
    from nexus.federate.core.total import Total


@dataclass(frozen=True)
class MimeLite(FedAvg):
    """Server momentum of rate `beta` in every local step. Sends two vectors of the model's size."""

    beta: float = 0.9

    def __post_init__(self) -> None:
        """Raises UsageError."""
        super().__post_init__()
        if not 0 <= self.beta < 1:
            raise UsageError("algorithm.beta must be from 0 to below 1", hint="0 is no momentum; try 0.9.")

    def begin(self, model: Vector, *, trainable: int, clients: int) -> State:
        extra = {"momentum": model[:trainable] * 0}
        return State(number=0, model=model, trainable=trainable, clients=clients, extra=extra)

    def plan(self, state: State) -> dict[str, Vector]:
        return {"model": state.model, "momentum": state.extra["momentum"]}

    def sends(self, state: State) -> dict[str, int]:
        return {"delta": len(state.model), "gradient": state.trainable}

    def local(self, plan: Vectors, trainer: Trainer, kept: Vectors) -> Step:
        start = plan["model"]
        gradient = trainer.gradient(start).vector.copy()
        fit = trainer.fit(start, self._mimic(plan["momentum"] * self.beta))
        return Step({"delta": fit.delta, "gradient": gradient}, fit.loss)

    def weight(self, samples: int) -> float:
        return 1.0

    def advance(self, state: State, total: Total) -> State:
        momentum = (1 - self.beta) * total.mean("gradient") + self.beta * state.extra["momentum"]
        model = state.model + self.lr * total.mean("delta")
        return replace(state, number=state.number + 1, model=model, extra=state.extra | {"momentum": momentum})

    def _mimic(self, push: Vector) -> Adjust:
        def mimic(_: Vector, gradient: Vector) -> None:
            gradient *= 1 - self.beta
            gradient += push

        return mimic


@dataclass(frozen=True)
class Mime(MimeLite):
    """MimeLite without the noise of a batch and of the client's own data: each step costs two gradients."""

    def begin(self, model: Vector, *, trainable: int, clients: int) -> State:
        state = super().begin(model, trainable=trainable, clients=clients)
        zero = model[:trainable] * 0
        return replace(state, extra=state.extra | {"gradient": zero})

    def plan(self, state: State) -> dict[str, Vector]:
        return super().plan(state) | {"gradient": state.extra["gradient"]}

    def local(self, plan: Vectors, trainer: Trainer, kept: Vectors) -> Step:
        start = plan["model"]
        if not plan["gradient"].any():  # nothing is known of it yet
            return super().local(plan, trainer, kept)
        gradient = trainer.gradient(start).vector.copy()
        push = plan["momentum"] * self.beta + plan["gradient"] * (1 - self.beta)
        fit = trainer.fit(start, self._mimic(push), anchor=start)
        return Step({"delta": fit.delta, "gradient": gradient}, fit.loss)

    def advance(self, state: State, total: Total) -> State:
        following = super().advance(state, total)
        return replace(following, extra=following.extra | {"gradient": total.mean("gradient")})
