"""McMahan's split."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from nexus.federate.core.dealing import Rows, counted, dice
from nexus.kernel.errors import UsageError


def shards(labels: ArrayLike, clients: int, *, each: int = 2, seed: int = 0) -> list[Rows]:
    """Rows sorted by label, cut into `each` shards per client, dealt at random. Raises UsageError."""
    count = counted(labels, clients)
    if not 1 <= each <= count // clients:
        raise UsageError(f"{count} rows cannot give {clients} clients {each} shards each", hint="Ask for fewer.")
    pieces = np.array_split(np.argsort(np.asarray(labels), kind="stable"), clients * each)
    dealt = dice(seed, "shards").permutation(clients * each).reshape(clients, each)
    return [np.sort(np.concatenate([pieces[piece] for piece in hand])) for hand in dealt]
