"""How many values lie in each of some bins of one width."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from nexus.federate.core.algorithm import State, Vector
from nexus.federate.core.analytics.query import Bounded
from nexus.kernel.errors import UsageError


@dataclass(frozen=True)
class Histogram(Bounded):
    """`bins` bins from `low` to `high`; what lies below or above is counted beside them."""

    bins: int = 20
    high: float = 1.0

    def __post_init__(self) -> None:
        """Raises UsageError."""
        super().__post_init__()
        self.need_bounds("a histogram has an end on either side")
        if not 1 <= self.bins <= 1_000_000:
            raise UsageError("bins must be from 1 to 1000000", hint="20 fit on a screen.")

    @property
    def length(self) -> int:
        return self.bins + 2

    def edges(self) -> list[float]:
        """The ends of all bins."""
        return [self.low + (self.high - self.low) * one / self.bins for one in range(self.bins + 1)]

    def count(self, values: Any, asked: Vector, number: int, dice: Any) -> Vector:
        import numpy as np

        cells = np.searchsorted(np.array(self.edges()), values, side="right")
        cells[values == self.high] = self.bins  # the last bin has both of its ends
        return np.bincount(cells, minlength=self.length).astype(np.float64)

    def conclude(self, state: State, sums: Vector, clients: int) -> State:
        return replace(state, model=sums.astype("float32"))

    def answer(self, state: State) -> dict[str, float]:
        edges = self.edges()
        inside = {f"{a:g} to {b:g}": float(state.model[1 + at]) for at, (a, b) in enumerate(pairwise(edges))}
        return {f"below {self.low:g}": float(state.model[0]), **inside, f"above {self.high:g}": float(state.model[-1])}
