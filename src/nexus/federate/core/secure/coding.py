"""Vectors as whole numbers that add up without wrapping: fixed point, with the scale chosen from norm and cohort.

An update of L2 norm `bound` at most, times its weight (as a part of the largest that counts), has no value beyond
`bound`. With `members` of them in a ring of `modulus`, each value gets modulus / 2 / members levels on either side of
zero: the sum of all cannot reach half of the ring, so its sign is never in doubt. The weight travels as the first word,
coded alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from nexus.federate.core.algorithm import Vectors
from nexus.federate.core.privacy.clipping import clipped
from nexus.federate.core.secure.primitives import Words
from nexus.federate.core.total import Array, Total

_CHUNK = 64 * 1024


@dataclass(frozen=True)
class Coding:
    """Both ways. `most` is the largest weight: what weighs more counts as that."""

    modulus: int
    bound: float
    most: float
    members: int
    lengths: Mapping[str, int]

    @property
    def size(self) -> int:
        """Words of an update."""
        return 1 + sum(self.lengths.values())

    @property
    def levels(self) -> int:
        """On either side of zero, for one update."""
        return (self.modulus - 1) // 2 // self.members

    def encode(self, update: Vectors, weight: float) -> Words:
        """An update, shortened to the bound, as words of the ring."""
        part = min(max(weight / self.most, 0.0), 1.0)
        short = clipped(update, self.bound)
        words = np.empty(self.size, np.uint32)
        words[0] = round(part * self.levels)
        at, factor = 1, part / self.bound * self.levels
        for name in sorted(self.lengths):
            for start in range(0, self.lengths[name], _CHUNK):
                exact = np.rint(short[name][start : start + _CHUNK].astype(np.float64) * factor)
                whole = np.clip(exact, -self.levels, self.levels).astype(np.int64)
                words[at : at + len(whole)] = (whole % self.modulus).astype(np.uint32)
                at += len(whole)
        return words

    def total(self, words: Words, count: int) -> Total:
        """The sum of `count` updates, in numbers again."""
        whole = words.astype(np.int64)
        whole[whole > self.modulus // 2] -= self.modulus
        weight = float(whole[0]) / self.levels * self.most
        sums: dict[str, Array] = {}
        at, factor = 1, self.bound * self.most / self.levels
        for name in sorted(self.lengths):
            part = whole[at : at + self.lengths[name]]
            sums[name] = (part * factor).astype(np.float32)
            at += len(part)
        return Total.of(sums, weight=weight, count=count)

    def add(self, many: Iterable[Words]) -> Words:
        """The sum in the ring, of updates in clear: what a simulation computes, and the protocols must."""
        total = np.zeros(self.size, np.uint64)
        for words in many:
            total = (total + words) % np.uint64(self.modulus)
        return total.astype(np.uint32)
