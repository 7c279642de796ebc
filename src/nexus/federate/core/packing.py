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

_GO_ON = 255  # a byte of a gap that says there is more of it

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
    """The values that are not zero, 4 bytes each, and how many zeros stand before each: mostly one byte.

    A byte of 255 says that 255 zeros come, and that the count goes on in the next byte.
    """

    def shapes(self, length: int) -> dict[str, Shape]:
        return {"gaps": Shape("uint8", length + length // _GO_ON), "of": Shape("float32", length)}

    def pack(self, vector: Array) -> dict[str, NDArray[Any]]:
        at = np.flatnonzero(vector)
        zeros = np.diff(at, prepend=-1) - 1
        ends = np.cumsum(zeros // _GO_ON + 1) - 1
        gaps = np.full(int(ends[-1]) + 1 if len(ends) else 0, _GO_ON, np.uint8)
        gaps[ends] = zeros % _GO_ON
        return {"gaps": gaps, "of": vector[at]}

    def unpack(self, fields: Fields, length: int) -> Array:
        gaps, values = fields["gaps"], fields["of"]
        ends = np.flatnonzero(gaps < _GO_ON)
        if len(ends) != len(values) or (len(gaps) and gaps[-1] == _GO_ON):
            raise UsageError(f"{len(ends)} positions for {len(values)} values")
        at = np.cumsum(gaps, dtype=np.int64)[ends] + np.arange(len(ends))
        if len(at) and int(at[-1]) >= length:
            raise UsageError("positions must stay inside of the vector")
        vector = np.zeros(length, np.float32)
        vector[at] = values
        return vector

    def size_b(self, vector: Array) -> int:
        at = np.flatnonzero(vector)
        zeros = np.diff(at, prepend=-1) - 1
        return 5 * len(at) + int((zeros // _GO_ON).sum())


@dataclass(frozen=True, slots=True)
class Levels:
    """Few bits a coordinate: its level, and a scale of 4 bytes for each `block` of coordinates.

    With one bit it is the scale or minus the scale; with more, level k of -`top` to `top` is scale * k / top, and the
    scale is the largest magnitude of its block.
    """

    bits: int  # 1, 2, 4 or 8
    block: int

    @property
    def top(self) -> int:
        """The highest level."""
        return 1 if self.bits == 1 else 2 ** (self.bits - 1) - 1

    def shapes(self, length: int) -> dict[str, Shape]:
        return {"levels": Shape("uint8", _bytes(length, self.bits)), "scales": Shape("float32", self._blocks(length))}

    def pack(self, vector: Array) -> dict[str, NDArray[Any]]:
        scales = np.abs(blocked(vector, self.block)).max(axis=1, initial=0.0)
        if self.bits == 1:
            return {"levels": np.packbits(vector >= 0), "scales": scales}
        each = np.repeat(scales, self.block)[: len(vector)]
        part = np.divide(vector, each, out=np.zeros_like(vector), where=each > 0)
        codes = np.rint(part * np.float32(self.top)).astype(np.int16) + self.top
        return {"levels": _squeezed(codes.astype(np.uint8), self.bits), "scales": scales}

    def unpack(self, fields: Fields, length: int) -> Array:
        levels, scales = fields["levels"], fields["scales"]
        if len(levels) != _bytes(length, self.bits) or len(scales) != self._blocks(length):
            raise UsageError(f"{len(levels)} bytes of levels and {len(scales)} scales for {length} values")
        if not bool(np.all(scales >= 0)):
            raise UsageError("scales must be 0 or more")
        if self.bits == 1:
            each = np.repeat(scales, self.block)[:length]
            return np.where(np.unpackbits(levels, count=length), each, -each)
        codes = _spread(levels, self.bits, length)
        if len(codes) and int(codes.max()) > 2 * self.top:
            raise UsageError(f"levels go from 0 to {2 * self.top}")
        return self.values(codes.astype(np.int16) - np.int16(self.top), scales, length)

    def values(self, codes: NDArray[np.int16], scales: Array, length: int) -> Array:
        """The vector of these levels."""
        each = np.repeat(scales, self.block)[:length]
        vector: Array = each * (codes.astype(np.float32) / np.float32(self.top))
        return vector

    def size_b(self, vector: Array) -> int:
        return _bytes(len(vector), self.bits) + 4 * self._blocks(len(vector))

    def _blocks(self, length: int) -> int:
        return -(-length // self.block)


def blocked(vector: Array, block: int) -> Array:
    """A vector as rows of `block`, the last one filled up with zeros."""
    rows = -(-len(vector) // block)
    if rows * block != len(vector):
        vector = np.concatenate([vector, np.zeros(rows * block - len(vector), vector.dtype)])
    return vector.reshape(rows, block)


def _bytes(length: int, bits: int) -> int:
    return -(-length * bits // 8)


def _squeezed(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Codes of `bits` bits each (a power of two), side by side in bytes."""
    each = 8 // bits
    rows = np.concatenate([codes, np.zeros(-len(codes) % each, np.uint8)]).reshape(-1, each)
    squeezed = np.zeros(len(rows), np.uint8)
    for place in range(each):
        squeezed |= rows[:, place] << (place * bits)
    return squeezed


def _spread(squeezed: NDArray[np.uint8], bits: int, length: int) -> NDArray[np.uint8]:
    each = 8 // bits
    rows = np.empty((len(squeezed), each), np.uint8)
    for place in range(each):
        rows[:, place] = squeezed >> (place * bits) & (2**bits - 1)
    return rows.reshape(-1)[:length]
