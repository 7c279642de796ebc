"""Quantity skew: labels are alike, sizes are not."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from nexus.federate.core.dealing import Rows, above_zero, counted, cuts_of, dice, even_out, sorted_rows


def quantity(labels: ArrayLike, clients: int, *, alpha: float = 0.5, seed: int = 0, least: int = 1) -> list[Rows]:
    """Sizes are a draw from Dirichlet(alpha): NIID-Bench's `iid-diff-quantity`. Raises UsageError."""
    count = counted(labels, clients, least)
    above_zero("alpha", alpha, "Try 0.5 (very uneven) to 100 (almost even).")
    draws = dice(seed, "quantity")
    cuts = cuts_of(draws.dirichlet(np.full(clients, alpha)), count)
    parts = [piece.tolist() for piece in np.split(draws.permutation(count), cuts)]
    even_out(parts, least)
    return sorted_rows(parts)
