"""Between even and skewed: one part of the rows is dealt evenly, the rest by label."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from nexus.federate.core.dealing import Rows, counted, dice
from nexus.federate.core.partitioners.iid import iid
from nexus.federate.core.partitioners.shards import shards
from nexus.kernel.errors import UsageError


def mixture(labels: ArrayLike, clients: int, *, even: float = 0.5, each: int = 1, seed: int = 0) -> list[Rows]:
    """The part `even` of all rows is dealt evenly, the others in `each` shards of sorted labels a client.

    Karimireddy et al.'s s% similarity (SCAFFOLD, 2020). Raises UsageError.
    """
    count = counted(labels, clients)
    if not 0 <= even <= 1:
        raise UsageError(f"even must be from 0 to 1, not {even:g}", hint="0: sorted by label, 1: everybody alike.")
    order = dice(seed, "mixture").permutation(count)
    cut = round(even * count)
    if cut < clients:  # too few to go round
        cut = 0
    if count - cut < clients * each:
        cut = count
    alike, skewed = np.sort(order[:cut]), np.sort(order[cut:])
    classes = np.asarray(labels)
    hands: list[list[Rows]] = [[] for _ in range(clients)]
    if len(alike):
        for hand, part in zip(hands, iid(classes[alike], clients, seed=seed), strict=True):
            hand.append(alike[part])
    if len(skewed):
        for hand, part in zip(hands, shards(classes[skewed], clients, each=each, seed=seed), strict=True):
            hand.append(skewed[part])
    return [np.sort(np.concatenate(hand)) for hand in hands]
