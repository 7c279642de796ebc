"""How a vector travels when it does not travel as it is. Packing loses nothing: what loses something is a layer's work.

So a simulation, which packs nothing, and a run over the network agree to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nexus.federate.core.total import Array
from nexus.kernel.errors import UsageError

Fields = Mapping[str, NDArray[Any]]  # the arrays of one packed vector, by a short name each


@dataclass(frozen=True, slots=True)
class Shape:
    """What a field may be: its numpy dtype, and its length at most."""

    dtype: str
    most: int


class Packing(Protocol):
    """Both ways of one kind of packing."""

    def shapes(self, length: int) -> dict[str, Shape]:
        """The fields of a vector of that length; the server takes nothing else."""
        ...

    def pack(self, vector: Array) -> dict[str, NDArray[Any]]:
        """The fields of a vector."""
        ...

    def unpack(self, fields: Fields, length: int) -> Array:
        """The vector. Raises UsageError for fields that no vector gives: they come from outside."""
        ...

    def size_b(self, vector: Array) -> int:
        """How many bytes the fields of a vector have, without packing it."""
        ...


def most_bytes(lengths: Mapping[str, int], packing: Mapping[str, Packing]) -> int:
    """The bytes of the largest update of vectors of these lengths."""
    size = 0
    for name, length in lengths.items():
        shapes = packing[name].shapes(length) if name in packing else {"": Shape("float32", length)}
        size += sum(shape.most * np.dtype(shape.dtype).itemsize for shape in shapes.values())
    return size


@dataclass(frozen=True, slots=True)
class Sparse:
    """Positions and values of what is not zero: 8 bytes each."""

    def shapes(self, length: int) -> dict[str, Shape]:
        return {"at": Shape("uint32", length), "of": Shape("float32", length)}

    def pack(self, vector: Array) -> dict[str, NDArray[Any]]:
        at = np.flatnonzero(vector).astype(np.uint32)
        return {"at": at, "of": vector[at]}

    def unpack(self, fields: Fields, length: int) -> Array:
        at, values = fields["at"], fields["of"]
        if len(at) != len(values):
            raise UsageError(f"{len(at)} positions for {len(values)} values")
        if len(at) and (int(at[-1]) >= length or not bool(np.all(at[1:] > at[:-1]))):
            raise UsageError("positions must grow, and stay inside of the vector")
        vector = np.zeros(length, np.float32)
        vector[at] = values
        return vector

    def size_b(self, vector: Array) -> int:
        return 8 * int(np.count_nonzero(vector))
