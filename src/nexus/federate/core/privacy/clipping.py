"""Bound what one client can do: all vectors of its update together are no longer than a norm."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from nexus.federate.core.algorithm import Vectors
from nexus.federate.core.total import Array

_CHUNK = 64 * 1024
_INSIDE = 1.0 - 1e-6  # room for rounding: what was clipped is below the bound, and not clipped again


def norm(vectors: Mapping[str, Array], order: int = 2) -> float:
    """The L1 or L2 norm of all vectors as one."""
    total = 0.0
    for vector in vectors.values():
        for start in range(0, len(vector), _CHUNK):
            part = vector[start : start + _CHUNK].astype(np.float64)
            total += float(part @ part) if order == 2 else float(np.abs(part).sum())
    return math.sqrt(total) if order == 2 else total


def clipped(vectors: Vectors, bound: float, order: int = 2) -> dict[str, Array]:
    """The vectors themselves if they are short enough, or shortened to `bound`. Doing it twice changes nothing."""
    length = norm(vectors, order)
    if length <= bound:
        return dict(vectors)
    factor = np.float32(bound * _INSIDE / length)
    return {name: vector * factor for name, vector in vectors.items()}
