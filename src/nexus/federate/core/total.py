"""The running sum of a round's updates: one vector of memory, however many clients there are.

Floating point addition is not associative, so the *order* is fixed instead: a cohort is cut into the same few blocks
whoever works on them; a block is summed in cohort order, and the blocks in theirs. The result is the same to the bit
for any number of workers, in simulation and over the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float32]
BLOCKS = 16  # of a cohort: enough for many workers, few enough to keep their sums


class Total:
    """Weighted sums of vectors. `absorb` adds one update, `merge` another total; both associative up to rounding."""

    __slots__ = ("count", "sums", "weight")

    def __init__(self, lengths: Mapping[str, int], sums: Mapping[str, Array] | None = None) -> None:
        """Zero. `sums` are places to add into (shared memory), which are cleared."""
        self.weight = 0.0
        self.count = 0
        self.sums: dict[str, Array] = dict(sums) if sums else {k: np.zeros(n, np.float32) for k, n in lengths.items()}
        if sums:
            for place in self.sums.values():
                place.fill(0.0)

    @classmethod
    def of(cls, sums: Mapping[str, Array], *, weight: float, count: int) -> Total:
        """A total that somebody else summed up, without a copy."""
        total = cls({})
        total.sums, total.weight, total.count = dict(sums), weight, count
        return total

    def absorb(self, vectors: Mapping[str, Array], weight: float) -> None:
        """Add `weight * vectors`."""
        for name, place in self.sums.items():
            target, vector = torch.from_numpy(place), _readable(vectors[name])
            if self.count:
                target.add_(vector, alpha=weight)
            else:  # whatever was there before
                torch.mul(vector, weight, out=target)
        self.weight += weight
        self.count += 1

    def merge(self, other: Total) -> None:
        """Add another total."""
        for name, place in self.sums.items():
            if self.count:
                np.add(place, other.sums[name], out=place)
            else:
                np.copyto(place, other.sums[name])
        self.weight += other.weight
        self.count += other.count

    def mean(self, name: str) -> Array:
        """The weighted mean of one vector. Raises ZeroDivisionError when nothing was absorbed."""
        if self.count == 0:
            raise ZeroDivisionError("no update was absorbed")
        return self.sums[name] * np.float32(1.0 / self.weight)


class _Alias:
    """An array's memory, said to be writable: torch reads what is not only under protest."""

    def __init__(self, vector: Array) -> None:
        self.owner = vector
        self.__array_interface__ = vector.__array_interface__ | {"data": (vector.ctypes.data, False)}


def _readable(vector: Array) -> torch.Tensor:
    """A view that nobody writes to; frames are mapped from files, and a vector may come from anywhere."""
    vector = np.ascontiguousarray(vector, np.float32)
    return torch.from_numpy(vector if vector.flags.writeable else np.asarray(_Alias(vector)))


def blocks(size: int) -> Iterator[range]:
    """The positions of a cohort of `size`, cut into at most BLOCKS runs of (almost) one length."""
    length = -(-size // BLOCKS)
    for start in range(0, size, max(length, 1)):
        yield range(start, min(start + length, size))


class OrderedFold:
    """Fold updates that come one at a time, in ascending cohort position (some may be missing), block by block."""

    def __init__(self, size: int, lengths: Mapping[str, int]) -> None:
        self._ends: Sequence[int] = [block.stop for block in blocks(size)]
        self._total = Total(lengths)
        self._block = Total(lengths)
        self._at = 0

    def add(self, position: int, vectors: Mapping[str, Array], weight: float) -> None:
        """Fold the update of the client at `position`, which must be above the last one."""
        while self._ends[self._at] <= position:
            self._close_block()
        self._block.absorb(vectors, weight)

    def finish(self) -> Total:
        """The total of all that was added."""
        self._close_block()
        return self._total

    def _close_block(self) -> None:
        block = self._block
        if block.count and not self._total.count:
            self._total, self._block = block, self._total
        elif block.count:
            self._total.merge(block)
            block.weight, block.count = 0.0, 0  # its memory is used again
        self._at += 1
