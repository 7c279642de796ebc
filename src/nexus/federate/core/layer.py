"""A layer is an algorithm around an algorithm: it changes what goes in or comes out, and leaves the rest as it is.

Personalisation, privacy, attacks and compression are layers; a composition nests them. What a layer keeps on the server
lies in `State.extra`, and what it keeps on a client in the client's memory, under names that begin with its family's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nexus.federate.core.algorithm import Algorithm, State, Step, Trainer, Vector, Vectors
from nexus.federate.core.algorithms.fedavg import FedAvg
from nexus.federate.core.draws import Draws

if TYPE_CHECKING:
    from nexus.federate.core.packing import Packing
    from nexus.federate.core.total import Total


@dataclass(frozen=True)
class Layer:
    """Everything as `inner` says. A subclass's options are its own fields; `seed` is the run's, for its dice."""

    inner: Algorithm = field(default_factory=FedAvg, kw_only=True)
    seed: int = field(default=0, kw_only=True)
    draws: Draws = field(default=Draws(), kw_only=True)

    def begin(self, model: Vector, *, trainable: int, clients: int) -> State:
        return self.inner.begin(model, trainable=trainable, clients=clients)

    def plan(self, state: State) -> dict[str, Vector]:
        return self.inner.plan(state)

    def sends(self, state: State) -> dict[str, int]:
        return self.inner.sends(state)

    def keeps(self, state: State) -> dict[str, int]:
        return self.inner.keeps(state)

    def local(self, plan: Vectors, trainer: Trainer, kept: Vectors) -> Step:
        return self.inner.local(plan, trainer, kept)

    def received(self, plan: Vectors, update: Vectors) -> Vectors:
        return self.inner.received(plan, update)

    def weight(self, samples: int) -> float:
        return self.inner.weight(samples)

    def advance(self, state: State, total: Total) -> State:
        return self.inner.advance(state, total)

    def packing(self, state: State) -> dict[str, Packing]:
        return self.inner.packing(state)

    def notes(self, state: State) -> dict[str, float]:
        return self.inner.notes(state)

    def over(self, state: State) -> str:
        return self.inner.over(state)
