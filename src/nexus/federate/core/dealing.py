"""What partitioners share: rows, counts that make sense, and nobody left empty."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nexus.federate.core.seeds import derive
from nexus.kernel.errors import UsageError

Rows = NDArray[np.int64]


def counted(labels: ArrayLike, clients: int, least: int = 1) -> int:
    """How many rows there are. Raises UsageError if they cannot give every client `least`."""
    count = len(np.asarray(labels))
    if clients < 1 or least < 1 or clients * least > count:
        each = "" if least == 1 else f", {least} each"
        raise UsageError(f"{count} rows cannot be dealt to {clients} clients{each}", hint="Ask for 1 client or more.")
    return count


def dice(seed: int, name: str) -> np.random.Generator:
    """Draws of one partitioner."""
    return np.random.default_rng(derive(seed, name))


def above_zero(name: str, value: float, hint: str) -> None:
    """Raises UsageError."""
    if not 0 < value < float("inf"):
        raise UsageError(f"{name} must be above 0, not {value:g}", hint=hint)


def cuts_of(shares: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Where `count` rows are cut so that the pieces have these shares of them."""
    cuts: NDArray[np.int64] = np.floor(np.cumsum(shares)[:-1] / shares.sum() * count + 0.5).astype(np.int64)
    return cuts


def even_out(parts: list[list[int]], least: int) -> None:
    """Who has less than `least` rows gets some from the richest."""
    for part in parts:
        while len(part) < least:
            part.append(max(parts, key=len).pop())


def sorted_rows(parts: Sequence[Sequence[int]]) -> list[Rows]:
    """Each client's rows in ascending order."""
    return [np.sort(np.array(part, np.int64)) for part in parts]
