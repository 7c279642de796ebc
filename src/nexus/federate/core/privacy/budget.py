"""What every mechanism has: a clip norm, noise, and a budget that no round may exceed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nexus.federate.core.algorithm import State
from nexus.federate.core.draws import Sampling
from nexus.federate.core.layer import Layer
from nexus.federate.core.privacy.accounting import Spending, epsilon
from nexus.kernel.errors import UsageError


@dataclass(frozen=True)
class Budget(Layer):
    """`clip` bounds a client's update, `noise` is the noise over `clip`; `epsilon` is the budget (0: none) at `delta`.

    What is spent follows from the rounds that are done, so it outlives whatever the state outlives. Clients count
    alike: how many samples one has is its own affair.
    """

    clip: float = 1.0
    noise: float = 1.0
    epsilon: float = 0.0
    delta: float = 1e-5
    seeded: int = 0  # 1: noise follows from the seed over the network too, which is for tests: it hides nothing

    def __post_init__(self) -> None:
        """Raises UsageError."""
        rules = {
            "privacy.clip must be above 0": 0 < self.clip < math.inf,
            "privacy.noise must be 0 or more": 0 <= self.noise < math.inf,
            "privacy.epsilon must be 0 or more": 0 <= self.epsilon < math.inf,
            "privacy.delta must be above 0 and below 1": 0 < self.delta < 1,
            "a budget needs noise: privacy.epsilon without privacy.noise": not self.epsilon or self.noise > 0,
        }
        for rule, holds in rules.items():
            if not holds:
                raise UsageError(rule, hint="clip=1 noise=1 epsilon=8 delta=1e-5 is a usual start.")

    def spent(self, state: State, rounds: int) -> float:
        """Epsilon after so many rounds. Raises MissingError without the extra."""
        return epsilon(self._spending(state), rounds)

    def weight(self, samples: int) -> float:
        return 1.0

    def notes(self, state: State) -> dict[str, float]:
        spent = self.spent(state, state.number)
        told = {"epsilon": spent, "delta": self.delta} if spent < math.inf else {}
        return self.inner.notes(state) | told

    def over(self, state: State) -> str:
        if self.epsilon and (following := self.spent(state, state.number + 1)) > self.epsilon:
            return (
                f"the privacy budget is spent: after round {state.number + 1} epsilon would be {following:.3g} at "
                f"delta {self.delta:g}, and {self.epsilon:g} is allowed"
            )
        return self.inner.over(state)

    def _spending(self, state: State) -> Spending:
        draws = self.draws
        return Spending(self.noise, self.delta, draws.sampling, draws.cohort, state.clients)

    def _every_round(self, state: State, *, laplace: bool = False) -> Spending:
        """As if each client took part in each round, and whoever sees one update knew whose it is."""
        return Spending(self.noise, self.delta, Sampling.OTHER, 1, state.clients, laplace)
