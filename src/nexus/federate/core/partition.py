"""Deal a data set out to clients. Pure and seeded: the same labels and seed give the same parts everywhere.

Each function takes the labels and gives one array of row numbers per client; every row goes to exactly one client.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nexus.federate.core.seeds import derive
from nexus.kernel.errors import UsageError

Rows = NDArray[np.int64]


def iid(labels: ArrayLike, clients: int, *, seed: int = 0) -> list[Rows]:
    """Everybody alike: rows shuffled and dealt out evenly. Raises UsageError."""
    count = _count(labels, clients)
    order = np.random.default_rng(derive(seed, "iid")).permutation(count)
    return [np.sort(part) for part in np.array_split(order, clients)]


def dirichlet(labels: ArrayLike, clients: int, *, alpha: float, seed: int = 0, least: int = 1) -> list[Rows]:
    """Label skew: each class is shared out by a draw from Dirichlet(alpha); small alpha is strong skew.

    Hsu et al. 2019; NIID-Bench's `noniid-labeldir`. Who has less than `least` rows gets some from the richest, instead
    of drawing again until all have enough. Raises UsageError.
    """
    count = _count(labels, clients)
    if not alpha > 0:
        raise UsageError(f"alpha must be above 0, not {alpha:g}", hint="Try 0.1 (strong skew) to 100 (almost even).")
    if least * clients > count:
        raise UsageError(f"{count} rows cannot give {clients} clients {least} each", hint="Ask for fewer clients.")
    dice = np.random.default_rng(derive(seed, "dirichlet"))
    classes = np.asarray(labels)
    parts: list[list[int]] = [[] for _ in range(clients)]
    for label in np.unique(classes):
        rows = dice.permutation(np.flatnonzero(classes == label))
        shares = dice.dirichlet(np.full(clients, alpha))
        cuts = np.floor(np.cumsum(shares)[:-1] * len(rows) + 0.5).astype(np.int64)
        for part, dealt in zip(parts, np.split(rows, cuts), strict=True):
            part.extend(dealt.tolist())
    _even_out(parts, least)
    return [np.sort(np.array(part, np.int64)) for part in parts]


def shards(labels: ArrayLike, clients: int, *, each: int = 2, seed: int = 0) -> list[Rows]:
    """McMahan's split: rows sorted by label, cut into `each` shards per client, dealt at random. Raises UsageError."""
    count = _count(labels, clients)
    if not 1 <= each <= count // clients:
        raise UsageError(f"{count} rows cannot give {clients} clients {each} shards each", hint="Ask for fewer.")
    dice = np.random.default_rng(derive(seed, "shards"))
    pieces = np.array_split(np.argsort(np.asarray(labels), kind="stable"), clients * each)
    dealt = dice.permutation(clients * each).reshape(clients, each)
    return [np.sort(np.concatenate([pieces[piece] for piece in hand])) for hand in dealt]


def label_counts(labels: ArrayLike, parts: Sequence[Rows]) -> NDArray[np.int64]:
    """How many rows of each class (columns) each client (rows) has."""
    classes, coded = np.unique(np.asarray(labels), return_inverse=True)
    return np.array([np.bincount(coded[part], minlength=len(classes)) for part in parts])


def _even_out(parts: list[list[int]], least: int) -> None:
    for part in parts:
        while len(part) < least:
            part.append(max(parts, key=len).pop())


def _count(labels: ArrayLike, clients: int) -> int:
    count = len(np.asarray(labels))
    if not 1 <= clients <= count:
        raise UsageError(f"{count} rows cannot be dealt to {clients} clients", hint="Ask for 1 client or more.")
    return count
