"""Homomorphic aggregation: clients share a key that the server has not, and it adds what it cannot read (CKKS).

Cheon et al., Homomorphic Encryption for Arithmetic of Approximate Numbers, 2017, by TenSEAL. Values are whole numbers
of 24 bits, the sum too: far coarser than CKKS's error at this scale, so what is decrypted is rounded to the exact sum.
The first client of a group makes the key, and sends it to each other one, sealed. It protects against a server that is
curious, not against one that is in league with a client, or asks the clients to decrypt something else than a sum:
where that matters, take secagg. What it saves is shares and masks; what it costs is 60 bytes a value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
import numpy as np

from nexus.federate.core.secure.party import Client, Group, Server, decode, encode
from nexus.federate.core.secure.primitives import Words
from nexus.federate.core.secure.scheme import Scheme
from nexus.kernel.errors import JobError, MissingError, UsageError

MODULUS = 2**24
_DEGREE, _BITS, _SCALE = 8192, [60, 50, 60], 2.0**50  # 128 bits of security for a ternary secret (at most 218 bits)
_SLOTS = _DEGREE // 2


class _Shares(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    public: bytes  # what the server adds with; of the first client only
    boxes: dict[int, bytes]


class _Unmask(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    signatures: dict[int, bytes]
    sum: list[bytes]


class _Client(Client):
    keys: ClassVar[int] = 1

    def _shares(self, message: bytes) -> bytes:
        others = self._know(message)
        self._first = min([*others, self.me])
        self._context: Any = None
        if self._first != self.me:
            return encode(_Shares(b"", dict.fromkeys(others, b"")))
        library = _library()
        context = library.context(library.SCHEME_TYPE.CKKS, poly_modulus_degree=_DEGREE, coeff_mod_bit_sizes=_BITS)
        context.global_scale = _SCALE
        kept = {"save_galois_keys": False, "save_relin_keys": False, "save_public_key": True}
        public = context.serialize(save_secret_key=False, **kept)
        secret = context.serialize(save_secret_key=True, **kept)
        self._context = context
        return encode(_Shares(public, {one: self._seal(one, secret) for one in others}))

    def _masked(self, message: bytes) -> bytes:
        boxes = decode(message, dict[int, bytes])
        self._enough({*boxes, self.me}, "sent their part of the key")
        if self._context is None:
            if self._first not in boxes:
                raise JobError("the client that made the key has vanished", hint="The next round chooses another.")
            self._context = _library().context_from(self._unseal(self._first, boxes[self._first]))
        words = self._words()
        if len(words) != self.group.size:
            raise JobError(f"{len(words)} words for a sum of {self.group.size}", hint="Is it the same model?")
        whole = words.astype(np.int64)
        whole[whole > MODULUS // 2] -= MODULUS
        parts = (whole[start : start + _SLOTS] / MODULUS for start in range(0, len(whole), _SLOTS))
        return encode([_library().ckks_vector(self._context, part.tolist()).serialize() for part in parts])

    def _survive(self, survivors: list[int]) -> None:
        """Whoever survived has encrypted for the same key, or its part cannot be read."""

    def _unmask(self, message: bytes) -> bytes:
        said = decode(message, _Unmask)
        self._vouched(encode(said.signatures))
        values: list[float] = []
        for part in said.sum:
            values += _vector(self._context, part).decrypt()
        whole = np.rint(np.array(values[: self.group.size]) * MODULUS).astype(np.int64)
        return bytes((whole % MODULUS).astype("<u4").tobytes())


class _Server(Server):
    def __init__(self, group: Group) -> None:
        super().__init__(group)
        self._public: Any = None
        self._sums: list[Any] = []
        self._said_sums: dict[int, bytes] = {}

    def _take_shares(self, client: int, message: bytes) -> None:
        shares = decode(message, _Shares)
        if client == min(self.present["keys"]):
            try:
                self._public = _library().context_from(shares.public)
            except (ValueError, RuntimeError) as error:
                raise UsageError(f"this is no key: {error}", hint="It does not keep to the protocol.") from error
        self._take_boxes(client, shares.boxes)

    def _take_masked(self, client: int, message: bytes) -> None:
        if self._public is None:
            raise UsageError("the client that made the key has vanished", hint="The next round chooses another.")
        parts, size = decode(message, list[bytes]), self.group.size
        if len(parts) != -(-size // _SLOTS):
            raise UsageError(f"{len(parts)} parts, not {-(-size // _SLOTS)}", hint="Is it the same model?")
        vectors = [_vector(self._public, part) for part in parts]
        if [vector.size() for vector in vectors] != [min(_SLOTS, size - at) for at in range(0, size, _SLOTS)]:
            raise UsageError("its parts have other lengths", hint="Is it the same model?")
        self._sums = [one + other for one, other in zip(self._sums, vectors, strict=True)] if self._sums else vectors

    def _after_check(self, present: list[int]) -> dict[int, bytes]:
        parts, signatures = [vector.serialize() for vector in self._sums], self._signatures
        return {
            one: encode(_Unmask({other: signatures[other] for other in self.hoods[one] if other in signatures}, parts))
            for one in present
        }

    def _take_unmask(self, client: int, message: bytes) -> None:
        if len(message) != 4 * self.group.size:
            raise UsageError(f"{len(message)} bytes, not {4 * self.group.size}", hint="Is it the same model?")
        self._said_sums[client] = message

    def _unmasked(self, present: list[int]) -> Words:
        sums = set(self._said_sums.values())
        if len(sums) != 1:
            raise JobError("clients decrypt the sum differently", hint="A client has lied; no sum was made.")
        return np.frombuffer(sums.pop(), "<u4").astype(np.uint32)


def _vector(context: Any, data: bytes) -> Any:
    try:
        return _library().ckks_vector_from(context, data)
    except (ValueError, RuntimeError) as error:
        raise UsageError(f"this is no encrypted vector: {error}", hint="It does not keep to the protocol.") from error


def _library() -> Any:
    try:
        import tenseal
    except ModuleNotFoundError as error:
        raise MissingError(
            f"homomorphic aggregation needs {error.name}", hint="pip install 'nexus[homomorphic]'"
        ) from error
    return tenseal


@dataclass(frozen=True)
class Ckks(Scheme):
    """Encrypted sums, for some tens of silos that trust each other more than the server."""

    modulus: ClassVar[int] = MODULUS

    def most_b(self, size: int, members: int) -> int:
        return 600_000 * (members + 1) + 300_000 * -(-size // _SLOTS)

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
