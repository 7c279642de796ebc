"""Deal a data set out to clients. Pure and seeded: the same labels and seed give the same parts everywhere.

Each way takes the labels and gives one array of row numbers per client; every row goes to exactly one client.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nexus.federate.core.dealing import Rows
from nexus.federate.core.partitioners import PARTITIONERS
from nexus.federate.core.partitioners.dirichlet import dirichlet
from nexus.federate.core.partitioners.iid import iid
from nexus.federate.core.partitioners.shards import shards
from nexus.kernel.errors import UsageError

__all__ = ["Rows", "deal", "dirichlet", "iid", "label_counts", "shards"]


def deal(labels: ArrayLike, clients: int, how: str = "iid", *, seed: int = 0, **options: Any) -> list[Rows]:
    """By the way of that name. Raises NotFoundError, and UsageError for an option that it has not."""
    way = PARTITIONERS.get(how)
    known = [name for name in signature(way).parameters if name not in {"labels", "keys", "clients", "seed"}]
    for option in options:
        if option not in known:
            has = ", ".join(known) or "none"
            raise UsageError(f"{how} has no option {option!r}", hint=f"It has: {has}.")
    parts: list[Rows] = way(labels, clients, seed=seed, **options)
    return parts


def label_counts(labels: ArrayLike, parts: Sequence[Rows]) -> NDArray[np.int64]:
    """How many rows of each class (columns) each client (rows) has."""
    classes, coded = np.unique(np.asarray(labels), return_inverse=True)
    return np.array([np.bincount(coded[part], minlength=len(classes)) for part in parts])
