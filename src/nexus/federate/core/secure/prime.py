"""Arithmetic modulo 2^31 - 1 on whole matrices, fast and exact, by floating point products of half words.

A half word has 16 bits, a product of two 32, and a sum of a million such products is exact in a double.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nexus.federate.core.secure.primitives import BLOCK, Stream, Words

PRIME = 2**31 - 1
_COLUMNS = 16 * 1024  # at once


def uniform(count: int, key: bytes) -> Words:
    """Values below the prime from a key's stream, each as likely as any."""
    stream, found, at = Stream(key), np.empty(count, np.uint32), 0
    while at < count:
        words = stream.words(BLOCK) & np.uint32(PRIME)
        good = words[words != PRIME][: count - at]
        found[at : at + len(good)] = good
        at += len(good)
    return found


def product(matrix: NDArray[np.uint32], vectors: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The matrix times the vectors (rows x length), modulo the prime."""
    found = np.empty((matrix.shape[0], vectors.shape[1]), np.uint32)
    high, low = (matrix >> 16).astype(np.float64), (matrix & 0xFFFF).astype(np.float64)
    for start in range(0, vectors.shape[1], _COLUMNS):
        part = vectors[:, start : start + _COLUMNS]
        above, below = (part >> 16).astype(np.float64), (part & 0xFFFF).astype(np.float64)
        top = _reduced(high @ above)
        middle = _reduced(high @ below + low @ above)
        bottom = _reduced(low @ below)
        # 2^32 is 2, modulo the prime
        found[:, start : start + part.shape[1]] = (top * 2 + middle * 65536 + bottom) % PRIME
    return found


def lagrange(known: Sequence[int], wanted: Sequence[int]) -> NDArray[np.uint32]:
    """The matrix that takes a polynomial's values at `known` points to those at `wanted` ones, none of them known."""
    rows = np.empty((len(wanted), len(known)), np.uint32)
    for column, point in enumerate(known):
        bottom = 1
        for other in known:
            if other != point:
                bottom = bottom * (point - other) % PRIME
        inverse = pow(bottom, -1, PRIME)
        for row, at in enumerate(wanted):
            top = 1
            for other in known:
                if other != point:
                    top = top * (at - other) % PRIME
            rows[row, column] = top * inverse % PRIME
    return rows


def _reduced(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    return values.astype(np.uint64) % np.uint64(PRIME)
