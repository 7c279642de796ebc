"""A quantile without a look at any value, in a few rounds: counts of cells, then counts inside of the cell it lies in.

The first round's cells are the powers of two, so that no bounds need be known; each later round cuts the cell that has
the quantile into `bins`. After r rounds the error is at most that cell's width / bins^(r - 1), until float32 ends.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from nexus.federate.core.algorithm import State, Vector
from nexus.federate.core.analytics.query import Query
from nexus.kernel.errors import UsageError

_LEAST, _MOST = -60, 100  # powers of two that are told apart; nearer to 0 is 0
_CELLS = _MOST - _LEAST


@dataclass(frozen=True)
class Quantile(Query):
    """The smallest value that a part `q` of all values are at or below: 0.5 is the median."""

    q: float = 0.5
    bins: int = 64
    steps: int = 4

    def __post_init__(self) -> None:
        """Raises UsageError."""
        super().__post_init__()
        if not 0 <= self.q <= 1:
            raise UsageError("q must be from 0 to 1", hint="0.5 is the median.")
        if self.bins < 2 or self.steps < 2:
            raise UsageError("bins and steps must be 2 or more", hint="64 bins in 4 steps are exact to a millionth.")

    @property
    def length(self) -> int:
        return max(2 * _CELLS + 1, self.bins + 2)

    @property
    def rounds(self) -> int:
        return self.steps

    def count(self, values: Any, asked: Vector, number: int, dice: Any) -> Vector:
        import numpy as np

        held = values.astype(np.float64)
        if number == 1:
            cells = _cells(held)
        else:
            edges = np.linspace(float(asked[0]), float(asked[1]), self.bins + 1)
            cells = np.searchsorted(edges, held, side="left")  # a cell has its upper end
        return np.bincount(cells, minlength=self.length).astype(np.float64)

    def conclude(self, state: State, sums: Vector, clients: int) -> State:
        import numpy as np

        counts = np.maximum(sums, 0.0)
        low, high = float(state.model[0]), float(state.model[1])
        edges = _powers() if state.number == 1 else [-np.inf, *np.linspace(low, high, self.bins + 1), np.inf]
        ranks = np.cumsum(counts)
        cell = int(np.searchsorted(ranks, max(self.q * ranks[-1], 0.5) - 1e-3))
        cell = min(cell, len(edges) - 2)
        asked = state.model.copy()
        ends = [low if np.isinf(edges[cell]) else edges[cell], high if np.isinf(edges[cell + 1]) else edges[cell + 1]]
        asked[0], asked[1], asked[2] = min(ends), max(ends), ranks[-1]
        return replace(state, model=asked)

    def answer(self, state: State) -> dict[str, float]:
        low, high, count = (float(one) for one in state.model[:3])
        return {"count": count, "quantile": (low + high) / 2, "error": (high - low) / 2}


def _cells(values: Any) -> Any:
    """Negative numbers of falling magnitude, then 0, then positive ones."""
    import numpy as np

    with np.errstate(divide="ignore"):
        power = np.clip(np.ceil(np.log2(np.abs(values))), _LEAST, _MOST).astype(np.int64) - _LEAST
    return np.where(values < 0, _CELLS - power, _CELLS + power).clip(0, 2 * _CELLS)


def _powers() -> list[float]:
    """The ends of those cells: cell i goes from the i-th to the next."""
    ends = [2.0**power for power in range(_LEAST, _MOST + 1)]
    return [-(2.0**_MOST), *(-one for one in reversed(ends[1:-1])), -ends[0], ends[0], *ends[1:]]
