"""What most algorithms share: the model goes out, what changed comes in, weighted by samples. It has no options."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus.federate.core.algorithm import State, Step, Trainer, Vector, Vectors

if TYPE_CHECKING:
    from nexus.federate.core.packing import Packing


class Plain:
    """Everything of `Algorithm` but `advance`."""

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

    def received(self, plan: Vectors, update: Vectors) -> Vectors:
        return update

    def weight(self, samples: int) -> float:
        return float(samples)

    def packing(self, state: State) -> dict[str, Packing]:
        return {}

    def notes(self, state: State) -> dict[str, float]:
        return {}

    def over(self, state: State) -> str:
        return ""


def moved(state: State, change: Vector, rest: Vector) -> Vector:
    """The model with its parameters moved by `change`, and its buffers (running means) by their part of `rest`.

    Buffers are no parameters: whatever an algorithm does to a step, they take the plain mean of what clients saw.
    """
    model = state.model + rest
    model[: state.trainable] = state.model[: state.trainable] + change
    return model
