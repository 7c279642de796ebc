"""Matrices that mix the models of clients who talk to each other: row i says what goes into the model of i."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]


def metropolis(size: int, edges: Iterable[tuple[int, int]]) -> Matrix:
    """Symmetric, rows and columns sum up to 1: W_ij = 1 / (1 + max(degree of i, degree of j)) for neighbours.

    Xiao and Boyd, Fast Linear Iterations for Distributed Averaging, 2004, section 5.2.
    """
    near = np.zeros((size, size), bool)
    for i, j in edges:
        if i != j:
            near[i, j] = near[j, i] = True
    degree = near.sum(axis=1)
    weights = near / (1.0 + np.maximum(degree[:, None], degree[None, :]))
    np.fill_diagonal(weights, 1.0 - weights.sum(axis=1))
    return np.asarray(weights, np.float32)


def pushed(size: int, peers: Sequence[Sequence[int]]) -> Matrix:
    """Columns sum up to 1: each shares out what it has, alike among those that it sends to and itself."""
    weights = np.zeros((size, size))
    for i, others in enumerate(peers):
        weights[[i, *others], i] = 1.0 / (1 + len(others))
    return weights.astype(np.float32)


def peers(size: int, degree: int, seed: int) -> list[list[int]]:
    """`degree` others for each, drawn by the seed; fewer where there are not as many."""
    dice = random.Random(seed)  # noqa: S311 (a reproducible draw)
    most = min(degree, size - 1)
    return [dice.sample([j for j in range(size) if j != i], most) for i in range(size)]
