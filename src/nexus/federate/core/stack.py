"""A round's updates beside each other, for whoever has to compare them: rows are clients.

The updates may lie in files or shared memory; what is computed here walks over them in chunks of coordinates, so that
its own memory does not grow with the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nexus.federate.core.total import Array, OrderedFold, Total

CHUNK = 64 * 1024  # coordinates at once


class Stack:
    """The accepted updates in the cohort's order. `weights` are what the algorithm gives each."""

    def __init__(self, clients: Sequence[int], weights: Sequence[float], rows: Sequence[Mapping[str, Array]]) -> None:
        self.clients = tuple(clients)
        self.weights = np.asarray(weights, np.float64)
        self.rows = rows

    def __len__(self) -> int:
        return len(self.clients)

    def only(self, positions: Sequence[int]) -> Stack:
        """Some of the updates; nothing is copied."""
        rows = [self.rows[at] for at in positions]
        return Stack([self.clients[at] for at in positions], [float(self.weights[at]) for at in positions], rows)

    @property
    def lengths(self) -> dict[str, int]:
        """Name and length of the vectors that every update has."""
        return {name: len(vector) for name, vector in self.rows[0].items()}

    def chunks(self, name: str) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """One vector of all clients, some coordinates at a time: clients x coordinates."""
        length = self.lengths[name]
        for start in range(0, length, CHUNK):
            part = slice(start, min(start + CHUNK, length))
            yield part, np.stack([row[name][part] for row in self.rows])

    def gram(self, name: str = "delta") -> NDArray[np.float64]:
        """The inner products of all pairs: clients x clients. Distances and cosines follow from it."""
        found = np.zeros((len(self), len(self)))
        for _, part in self.chunks(name):
            wide = part.astype(np.float64)
            found += wide @ wide.T
        return found

    def distances(self, name: str = "delta") -> NDArray[np.float64]:
        """The squared distances of all pairs: clients x clients."""
        gram = self.gram(name)
        norms = np.diag(gram)
        return np.maximum(norms[:, None] + norms[None, :] - 2.0 * gram, 0.0)

    def norms(self, name: str = "delta") -> NDArray[np.float64]:
        """The L2 norm of each client's vector."""
        return np.sqrt(np.diag(self.gram(name)))

    def total(self, weights: Sequence[float] | NDArray[np.float64] | None = None) -> Total:
        """The weighted sum over all clients; of those with weight 0, nothing."""
        chosen = self.weights if weights is None else np.asarray(weights, np.float64)
        fold = OrderedFold(len(self), self.lengths)
        for position, (row, weight) in enumerate(zip(self.rows, chosen, strict=True)):
            if weight:
                fold.add(position, row, float(weight))
        return fold.finish()
