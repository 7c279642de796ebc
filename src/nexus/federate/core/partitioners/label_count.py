"""Every client knows `each` classes only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nexus.federate.core.dealing import Rows, counted, dice, sorted_rows
from nexus.kernel.errors import UsageError


def label_count(labels: ArrayLike, clients: int, *, each: int = 2, seed: int = 0) -> list[Rows]:
    """Exactly `each` classes a client (NIID-Bench's `#C=k`); a class is shared evenly by those who have it.

    Classes go round, so that each has an owner whenever clients * each is at least their number. Raises UsageError,
    also where a class has fewer rows than owners.
    """
    counted(labels, clients)
    names, coded = np.unique(np.asarray(labels), return_inverse=True)
    if not 1 <= each <= len(names) or clients * each < len(names):
        raise UsageError(
            f"{clients} clients of {each} classes each cannot share {len(names)} classes",
            hint=f"Take `each` from {-(-len(names) // clients)} to {len(names)}.",
        )
    draws = dice(seed, "label_count")
    parts: list[list[int]] = [[] for _ in range(clients)]
    for label, owners in enumerate(_owners(draws, clients, each, len(names))):
        rows = draws.permutation(np.flatnonzero(coded == label))
        if len(rows) < len(owners):
            raise UsageError(
                f"class {names[label]} has {len(rows)} rows for {len(owners)} clients", hint="Take fewer clients."
            )
        for owner, dealt in zip(owners, np.array_split(rows, len(owners)), strict=True):
            parts[owner].extend(dealt.tolist())
    return sorted_rows(parts)


def _owners(draws: np.random.Generator, clients: int, each: int, classes: int) -> list[list[int]]:
    """Who has each class. A client takes those that have the fewest owners, in an order of its own."""
    owners: list[list[int]] = [[] for _ in range(classes)]
    for client in draws.permutation(clients).tolist():
        order: NDArray[np.int64] = draws.permutation(classes)
        for label in sorted(order.tolist(), key=lambda one: len(owners[one]))[:each]:
            owners[label].append(client)
    return owners
