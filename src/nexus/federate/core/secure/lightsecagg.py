"""LightSecAgg: each client masks once, and what takes all masks off at once is shared in coded pieces beforehand.

So et al., LightSecAgg: a Lightweight and Versatile Design for Secure Aggregation in Federated Learning, 2022,
algorithm 1. With U the threshold and T = U / 2: a mask is cut into U - T pieces, T random ones are added, and all U are
the values of a polynomial, whose value at a point of its own each other client gets. The survivors' values sum up to
a value of the sum of their polynomials: any U of them give the sum of the masks, and any T say nothing. Drop-outs cost
the server nothing; the price is that pieces of every mask travel beforehand, 1 / (U - T) of an update to each client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from nexus.federate.core.secure.party import Client, Group, Server, decode, encode
from nexus.federate.core.secure.prime import PRIME, lagrange, product, uniform
from nexus.federate.core.secure.primitives import Words
from nexus.federate.core.secure.scheme import Scheme
from nexus.kernel.errors import JobError, UsageError


@dataclass(frozen=True)
class _Pieces:
    """How a group cuts its masks."""

    group: Group

    @property
    def data(self) -> int:
        """Pieces that hold the mask; the other ones are random."""
        return self.group.threshold - self.group.threshold // 2

    @property
    def length(self) -> int:
        """Words of a piece."""
        return -(-self.group.size // self.data)

    @property
    def inner(self) -> list[int]:
        """The points whose values are the pieces."""
        return list(range(1, self.group.threshold + 1))

    def outer(self, client: int) -> int:
        """The point whose value a client gets."""
        return self.group.threshold + 1 + sorted(self.group.members).index(client)

    def read(self, data: bytes) -> Words:
        """A piece from outside. Raises UsageError."""
        if len(data) != 4 * self.length:
            raise UsageError(f"a piece of {len(data)} bytes, not {4 * self.length}", hint="Is it the same model?")
        words = np.frombuffer(data, "<u4")
        if int(words.max()) >= PRIME:
            raise UsageError("a piece has values outside of the field", hint="It does not keep to the protocol.")
        return words


class _Client(Client):
    keys: ClassVar[int] = 1

    def _shares(self, message: bytes) -> bytes:
        others = self._know(message)
        pieces = _Pieces(self.group)
        mask = uniform(self.group.size, self._fresh())
        rows = np.zeros((self.group.threshold, pieces.length), np.uint32)
        rows[: pieces.data].reshape(-1)[: self.group.size] = mask
        for row in range(pieces.data, self.group.threshold):
            rows[row] = uniform(pieces.length, self._fresh())
        receivers = [*others, self.me]
        coded = product(lagrange(pieces.inner, [pieces.outer(one) for one in receivers]), rows)
        self._mask = mask
        self._held: dict[int, Words] = {self.me: coded[-1]}
        return encode({one: self._seal(one, _bytes(coded[at])) for at, one in enumerate(others)})

    def _masked(self, message: bytes) -> bytes:
        boxes = decode(message, dict[int, bytes])
        self._enough({*boxes, self.me}, "shared their masks")
        for sender, box in boxes.items():
            self._held[sender] = _Pieces(self.group).read(self._unseal(sender, box))
        words = self._words()
        if len(words) != self.group.size:
            raise JobError(f"{len(words)} words for a sum of {self.group.size}", hint="Is it the same model?")
        masked = (words.astype(np.uint64) + self._mask) % np.uint64(PRIME)
        return _bytes(masked.astype(np.uint32))

    def _survive(self, survivors: list[int]) -> None:
        if not set(survivors) <= set(self._held):
            raise JobError("the server counts a client that shared no mask", hint="Do not trust this server.")

    def _unmask(self, message: bytes) -> bytes:
        self._vouched(message)
        total = np.zeros(_Pieces(self.group).length, np.uint64)
        for one in self.survivors:
            total += self._held[one]
        self._held = {}
        return _bytes((total % np.uint64(PRIME)).astype(np.uint32))


class _Server(Server):
    def __init__(self, group: Group) -> None:
        super().__init__(group)
        self._pieces = _Pieces(group)
        self._masked = np.zeros(group.size, np.uint64)
        self._values: dict[int, Words] = {}

    def _take_shares(self, client: int, message: bytes) -> None:
        self._take_boxes(client, decode(message, dict[int, bytes]))

    def _take_masked(self, client: int, message: bytes) -> None:
        if len(message) != 4 * self.group.size:
            raise UsageError(f"{len(message)} bytes, not {4 * self.group.size}", hint="Is it the same model?")
        words = np.frombuffer(message, "<u4")
        if int(words.max()) >= PRIME:
            raise UsageError("it has values outside of the field", hint="It does not keep to the protocol.")
        np.add(self._masked, words, out=self._masked)

    def _take_unmask(self, client: int, message: bytes) -> None:
        self._values[client] = self._pieces.read(message)

    def _unmasked(self, present: list[int]) -> Words:
        needed = self.group.threshold
        used, spare = present[:needed], present[needed:]
        values: NDArray[np.uint32] = np.stack([self._values[one] for one in used])
        points = [self._pieces.outer(one) for one in used]
        if spare:  # one more value than a polynomial needs tells whether all lie on one
            seen = product(lagrange(points, [self._pieces.outer(one) for one in spare]), values)
            if any((row != self._values[one]).any() for row, one in zip(seen, spare, strict=True)):
                raise JobError(
                    "the pieces of the masks do not fit together", hint="A client has lied; no sum was made."
                )
        decoded = product(lagrange(points, self._pieces.inner[: self._pieces.data]), values)
        mask = decoded.reshape(-1)[: self.group.size]
        total = (self._masked % np.uint64(PRIME)) + np.uint64(PRIME) - mask
        return (total % np.uint64(PRIME)).astype(np.uint32)


def _bytes(words: Words) -> bytes:
    return words.astype("<u4", copy=False).tobytes()


@dataclass(frozen=True)
class LightSecAgg(Scheme):
    """The mask of the sum in one step, however many vanished. Half of the threshold may collude with the server."""

    modulus: ClassVar[int] = PRIME

    def server(self, group: Group) -> Server:
        return _Server(group)

    def client(
        self,
        group: Group,
        me: int,
        *,
        identity: bytes,
        roster: Mapping[int, bytes],
        words: Callable[[], Words],
        fresh: Callable[[], bytes],
    ) -> Client:
        return _Client(group, me, identity, roster, words, fresh)
