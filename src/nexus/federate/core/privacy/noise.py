"""Noise from a cipher's key stream: nobody without the key can guess any of it.

It is drawn in double precision and rounded to single, so it is not proof against who measures the gaps between floating
point numbers (Mironov, On Significance of the Least Significant Bits for Differential Privacy, 2012).
"""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from nexus.federate.core.total import Array

_CHUNK = 64 * 1024  # values at once


def gaussian(length: int, deviation: float, key: bytes) -> Array:
    """`length` values of mean 0 from the stream of a 32-byte key, by Box and Muller."""
    stream, found = _Stream(key), np.empty(length, np.float32)
    for start in range(0, length, _CHUNK):
        part = found[start : start + _CHUNK]
        half = -(-len(part) // 2)
        radius = np.sqrt(-2.0 * np.log(stream.uniform(half))) * deviation
        angle = 2.0 * np.pi * stream.uniform(half)
        part[:half] = radius * np.cos(angle)
        part[half:] = (radius * np.sin(angle))[: len(part) - half]
    return found


def laplace(length: int, scale: float, key: bytes) -> Array:
    """`length` values of mean 0 and deviation sqrt(2) * scale."""
    stream, found = _Stream(key), np.empty(length, np.float32)
    for start in range(0, length, _CHUNK):
        part = found[start : start + _CHUNK]
        part[:] = scale * (np.log(stream.uniform(len(part))) - np.log(stream.uniform(len(part))))
    return found


class _Stream:
    def __init__(self, key: bytes) -> None:
        self._cipher = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()

    def uniform(self, length: int) -> NDArray[np.float64]:
        """Above 0, at most 1, in steps of 2^-53."""
        words = np.frombuffer(self._cipher.update(bytes(8 * length)), np.uint64)
        return ((words >> np.uint64(11)).astype(np.float64) + 1.0) * 2.0**-53
