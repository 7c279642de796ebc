"""The clients that the data itself names: writers, speakers, hospitals."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from nexus.federate.core.dealing import Rows
from nexus.kernel.errors import UsageError


def by_key(keys: ArrayLike, clients: int = 0, *, seed: int = 0, least: int = 1) -> list[Rows]:  # noqa: ARG001 (all have a seed)
    """One client for each key with `least` rows or more, in the keys' order; `clients` of them, the largest (0: all).

    The one way in which rows may go to nobody. `seed` changes nothing: keys are no draw. Raises UsageError.
    """
    _, coded, sizes = np.unique(np.asarray(keys), return_inverse=True, return_counts=True)
    enough = np.flatnonzero(sizes >= least)
    if clients > len(enough) or not len(enough):
        raise UsageError(
            f"{len(enough)} keys have {least} rows or more, not {max(clients, 1)}", hint="Ask for fewer clients."
        )
    largest = enough[np.argsort(-sizes[enough], kind="stable")[: clients or len(enough)]]
    order = np.argsort(coded, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)])
    return [order[starts[key] : starts[key + 1]].astype(np.int64) for key in np.sort(largest)]
