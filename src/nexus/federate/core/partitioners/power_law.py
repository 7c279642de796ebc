"""Few clients have much, many have little: sizes fall by a power of the rank, labels are alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from nexus.federate.core.dealing import Rows, above_zero, counted, cuts_of, dice, even_out, sorted_rows


def power_law(labels: ArrayLike, clients: int, *, exponent: float = 1.0, seed: int = 0, least: int = 1) -> list[Rows]:
    """The client of rank r (drawn at random) has a share of r^-exponent (Zipf; 1 as in LEAF-like data).

    Raises UsageError.
    """
    count = counted(labels, clients, least)
    above_zero("exponent", exponent, "1 is Zipf's law; more is more uneven.")
    draws = dice(seed, "power_law")
    shares = draws.permutation(np.arange(1, clients + 1, dtype=np.float64) ** -exponent)
    parts = [piece.tolist() for piece in np.split(draws.permutation(count), cuts_of(shares, count))]
    even_out(parts, least)
    return sorted_rows(parts)
