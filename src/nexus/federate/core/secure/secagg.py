"""SecAgg and SecAgg+: pairs of clients add masks that cancel, and each adds one of its own.

Bonawitz et al., Practical Secure Aggregation for Privacy-Preserving Machine Learning, 2017 (figure 4, with consistency
check and signed keys); Bell et al., Secure Single-Server Aggregation with (Poly)Logarithmic Overhead, 2020 (neighbours
instead of all pairs). Client u sends x_u + PRG(b_u) + sum over neighbours v of +-PRG(s_uv). Of who survives, b_u is put
together from shares; of who vanished, the secret key behind its s_uv: never both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar

import msgspec
import numpy as np

from nexus.federate.core.secure import primitives, shamir
from nexus.federate.core.secure.party import Client, Group, Server, decode, encode
from nexus.federate.core.secure.primitives import Words, add_mask
from nexus.federate.core.secure.scheme import Scheme
from nexus.kernel.errors import JobError, UsageError


class _Shares(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    commitment: bytes  # the digest of the sender's own seed
    boxes: dict[int, bytes]


class _Unmask(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    seeds: dict[int, bytes]  # shares of the seeds of who survived
    keys: dict[int, bytes]  # shares of the keys of who vanished


def _pair_key(private: bytes, other_key: bytes, group: Group, one: int, other: int) -> bytes:
    low, high = sorted((one, other))
    return primitives.agree(private, other_key, group.name + b"mask" + low.to_bytes(8, "big") + high.to_bytes(8, "big"))


class _Client(Client):
    keys: ClassVar[int] = 2  # for sealing, for masks

    def _shares(self, message: bytes) -> bytes:
        others = self._know(message)
        self._seed = self._fresh()
        count, threshold = len(self.neighbours), self.group.threshold
        seeds = shamir.split(self._seed, threshold, count, self._fresh)
        keys = shamir.split(self._private[1], threshold, count, self._fresh)
        mine = self.neighbours.index(self.me)
        self._held = {self.me: (seeds[mine], keys[mine])}
        places = {one: self.neighbours.index(one) for one in others}
        boxes = {one: self._seal(one, seeds[at] + keys[at]) for one, at in places.items()}
        return encode(_Shares(sha256(self._seed).digest(), boxes))

    def _masked(self, message: bytes) -> bytes:
        boxes = decode(message, dict[int, bytes])
        self._enough({*boxes, self.me}, "shared their keys")
        for sender, box in boxes.items():
            shares = self._unseal(sender, box)
            if len(shares) != 2 * shamir.SHARE_B:
                raise JobError(f"what client {sender} shared is no share", hint="It does not keep to the protocol.")
            self._held[sender] = shares[: shamir.SHARE_B], shares[shamir.SHARE_B :]
        words = self._words()
        if len(words) != self.group.size:
            raise JobError(f"{len(words)} words for a sum of {self.group.size}", hint="Is it the same model?")
        words = words.copy()
        add_mask(words, primitives.own_mask(self._seed))
        for other in boxes:
            key = _pair_key(self._private[1], self._adverts[other].keys[1], self.group, self.me, other)
            add_mask(words, key, negative=self.me > other)
        return words.astype("<u4", copy=False).tobytes()

    def _unmask(self, message: bytes) -> bytes:
        self._vouched(message)
        alive = set(self.survivors)
        seeds = {one: held[0] for one, held in self._held.items() if one in alive}
        keys = {one: held[1] for one, held in self._held.items() if one not in alive}
        self._held = {}
        return encode(_Unmask(seeds, keys))

    def _survive(self, survivors: list[int]) -> None:
        strangers = (set(survivors) & set(self.neighbours)) - set(self._held)
        if strangers:
            raise JobError("the server counts a neighbour that shared no keys", hint="Do not trust this server.")


class _Server(Server):
    def __init__(self, group: Group) -> None:
        super().__init__(group)
        self._commitments: dict[int, bytes] = {}
        self._masked = np.zeros(group.size, np.uint32)
        self._unmasks: dict[int, _Unmask] = {}

    def _take_shares(self, client: int, message: bytes) -> None:
        shares = decode(message, _Shares)
        self._take_boxes(client, shares.boxes)
        self._commitments[client] = shares.commitment

    def _take_masked(self, client: int, message: bytes) -> None:
        if len(message) != 4 * self.group.size:
            raise UsageError(f"{len(message)} bytes, not {4 * self.group.size}", hint="Is it the same model?")
        np.add(self._masked, np.frombuffer(message, "<u4"), out=self._masked)

    def _take_unmask(self, client: int, message: bytes) -> None:
        said = decode(message, _Unmask)
        near = set(self.hoods[client]) & set(self.present["shares"])
        alive = set(self.survivors)
        shares = [*said.seeds.values(), *said.keys.values()]
        whole = set(said.seeds) == near & alive and set(said.keys) == near - alive
        if not whole or any(len(share) != shamir.SHARE_B for share in shares):
            raise UsageError("those are not the shares that were asked for", hint="It does not keep to the protocol.")
        self._unmasks[client] = said

    def _unmasked(self, present: list[int]) -> Words:
        total, counted = self._masked, {}
        alive, here = set(self.survivors), set(present)
        for one in self.present["shares"]:
            holders = tuple(h for h in self.hoods[one] if h in here)[: self.group.threshold]
            if len(holders) < self.group.threshold:
                raise JobError(
                    f"{len(holders)} clients can unmask the part of client {one}, {self.group.threshold} are needed",
                    hint="Too many of its neighbours dropped out. More neighbours bear more.",
                )
            points = tuple(self.hoods[one].index(holder) + 1 for holder in holders)
            if points not in counted:
                counted[points] = shamir.weights(points)
            said = [self._unmasks[holder] for holder in holders]
            shares = [(m.seeds if one in alive else m.keys)[one] for m in said]
            secret = shamir.join(shares, counted[points])
            if one in alive:
                self._take_seed_off(total, one, secret)
            else:
                self._take_pairs_off(total, one, secret)
        return total

    def _take_seed_off(self, total: Words, one: int, seed: bytes) -> None:
        if sha256(seed).digest() != self._commitments[one]:
            raise JobError(f"the shares of client {one}'s seed are wrong", hint="A client has lied; no sum was made.")
        add_mask(total, primitives.own_mask(seed), negative=True)

    def _take_pairs_off(self, total: Words, one: int, private: bytes) -> None:
        if primitives.public(private) != self._adverts[one].keys[1]:
            raise JobError(f"the shares of client {one}'s key are wrong", hint="A client has lied; no sum was made.")
        for other in self.hoods[one]:
            if other != one and other in self.survivors:
                key = _pair_key(private, self._adverts[other].keys[1], self.group, one, other)
                add_mask(total, key, negative=other < one)


@dataclass(frozen=True)
class SecAgg(Scheme):
    """All pairs: bears that any 1 - `threshold` of all clients vanish. Its cost grows with the cohort, squared."""

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


@dataclass(frozen=True)
class SecAggPlus(SecAgg):
    """`neighbours` each (0: six times the binary logarithm of the cohort), rounded up to an even number."""

    neighbours: int = 0

    def degree(self, members: int) -> int:
        wanted = self.neighbours or 6 * math.ceil(math.log2(max(members, 2)))
        return min(members - 1, wanted + wanted % 2)
