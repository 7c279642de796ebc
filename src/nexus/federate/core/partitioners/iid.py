"""Everybody alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from nexus.federate.core.dealing import Rows, counted, dice


def iid(labels: ArrayLike, clients: int, *, seed: int = 0) -> list[Rows]:
    """Rows shuffled and dealt out evenly. Raises UsageError."""
    order = dice(seed, "iid").permutation(counted(labels, clients))
    return [np.sort(part) for part in np.array_split(order, clients)]
