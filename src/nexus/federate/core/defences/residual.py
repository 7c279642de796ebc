"""Each coordinate's values, in order, lie near a line; who lies far from it often counts less everywhere.

Fu et al., Attack-Resistant Federated Learning with Residual-based Reweighting, 2019: a repeated-median line through
the sorted values of each coordinate, residuals in units of their median, and confidences c = sqrt(1 - h) / e *
clip(e / sqrt(1 - h), +-width * sqrt(2 / n)), h the leverage; a client's weight is its mean confidence, each
coordinate counting by the spread of its values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nexus.federate.core.algorithm import Vectors
from nexus.federate.core.defence import Combined, Scene
from nexus.federate.core.mixture import Numbers, weighted
from nexus.federate.core.stack import Stack
from nexus.kernel.errors import UsageError

_CELLS = 2_000_000  # of slopes at once


def confidences(values: Numbers, width: float) -> Numbers:
    """Clients x coordinates: 1 for those on the line."""
    count = len(values)
    order = np.argsort(values, axis=0)
    y = np.take_along_axis(values, order, axis=0)
    x = (np.arange(count) + 1.0) / count
    apart = x[None, :] - x[:, None]
    np.fill_diagonal(apart, np.nan)
    slopes = (y[None, :, :] - y[:, None, :]) / apart[:, :, None]
    starts = (x[None, :, None] * y[:, None, :] - x[:, None, None] * y[None, :, :]) / apart[:, :, None]
    slope = np.median(np.nanmedian(slopes, axis=1), axis=0)
    start = np.median(np.nanmedian(starts, axis=1), axis=0)
    off = y - x[:, None] * slope - start
    unit = 1.4826 * (1 + 5 / (count - 1)) * np.median(np.abs(off), axis=0) + 1e-12
    leverage = 1 / count + (x - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum()
    root = np.sqrt(np.maximum(1 - leverage, 1e-9))[:, None]
    size = np.maximum(np.abs(off / unit) / root, 1e-12)
    found = np.minimum(size, width * np.sqrt(2 / count)) / size
    return np.asarray(np.take_along_axis(found, np.argsort(order, axis=0), axis=0))


@dataclass(frozen=True)
class Residual:
    """`width`: how far from the line is no reason yet."""

    width: float = 2.0

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if not self.width > 0:
            raise UsageError("defence.width must be above 0", hint="2 is the paper's.")

    def keeps(self, sends: dict[str, int], clients: int) -> dict[str, int]:
        return {}

    def combine(self, stack: Stack, memory: Vectors, scene: Scene) -> Combined:
        count = len(stack)
        if count < 3:
            return weighted(stack, np.ones(count))
        trust, spread_sum = np.zeros(count), 0.0
        step = max(1, _CELLS // count**2)
        for _, part in stack.chunks("delta"):
            for first in range(0, part.shape[1], step):
                values = part[:, first : first + step].astype(np.float64)
                spread = np.median(np.abs(values - np.median(values, axis=0)), axis=0)
                trust += confidences(values, self.width) @ spread
                spread_sum += float(spread.sum())
        return weighted(stack, trust / spread_sum if spread_sum else np.ones(count))
