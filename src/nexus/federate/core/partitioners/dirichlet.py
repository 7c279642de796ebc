"""Label skew by a Dirichlet distribution."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from nexus.federate.core.dealing import Rows, above_zero, counted, cuts_of, dice, even_out, sorted_rows


def dirichlet(labels: ArrayLike, clients: int, *, alpha: float, seed: int = 0, least: int = 1) -> list[Rows]:
    """Each class is shared out by a draw from Dirichlet(alpha); small alpha is strong skew.

    Hsu et al. 2019; NIID-Bench's `noniid-labeldir`. Who has less than `least` rows gets some from the richest, instead
    of drawing again until all have enough. Raises UsageError.
    """
    counted(labels, clients, least)
    above_zero("alpha", alpha, "Try 0.1 (strong skew) to 100 (almost even).")
    draws = dice(seed, "dirichlet")
    classes = np.asarray(labels)
    parts: list[list[int]] = [[] for _ in range(clients)]
    for label in np.unique(classes):
        rows = draws.permutation(np.flatnonzero(classes == label))
        cuts = cuts_of(draws.dirichlet(np.full(clients, alpha)), len(rows))
        for part, dealt in zip(parts, np.split(rows, cuts), strict=True):
            part.extend(dealt.tolist())
    even_out(parts, least)
    return sorted_rows(parts)
