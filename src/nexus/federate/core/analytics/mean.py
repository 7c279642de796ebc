"""Mean and variance, in two rounds: the second sums what differs from the first's mean, so that nothing cancels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from nexus.federate.core.algorithm import State, Vector
from nexus.federate.core.analytics.query import Bounded


@dataclass(frozen=True)
class Mean(Bounded):
    """Of all values, each as much as any other. With `low` and `high`, values beyond are taken as these."""

    @property
    def length(self) -> int:
        return 3

    @property
    def rounds(self) -> int:
        return 2

    @property
    def _unit(self) -> tuple[float, float]:
        """The middle, and what counts as one: values within bounds go from -1 to 1."""
        return ((self.low + self.high) / 2, (self.high - self.low) / 2) if self.bounded else (0.0, 1.0)

    def count(self, values: Any, asked: Vector, number: int, dice: Any) -> Vector:
        import numpy as np

        middle, unit = self._unit
        held = values.astype(np.float64)
        if self.bounded:
            held = np.clip(held, self.low, self.high)
        away = (held - middle) / unit - float(asked[1])
        return np.array([len(away), away.sum(), (away**2).sum()])

    def conclude(self, state: State, sums: Vector, clients: int) -> State:
        asked = state.model.copy()
        number = max(float(sums[0]), 1e-9)
        off = float(sums[1]) / number
        asked[:] = number, float(asked[1]) + off, max(float(sums[2]) / number - off**2, 0.0)
        return replace(state, model=asked)

    def answer(self, state: State) -> dict[str, float]:
        middle, unit = self._unit
        number, mean, variance = (float(one) for one in state.model)
        return {
            "count": number,
            "mean": middle + unit * mean,
            "variance": variance * unit**2,
            "standard_deviation": variance**0.5 * unit,
        }
