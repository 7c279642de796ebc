"""The cryptography that secure aggregation stands on: X25519, HKDF, AES-CTR, ChaCha20-Poly1305 and Ed25519."""

from __future__ import annotations

import numpy as np
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from nexus.kernel.errors import JobError

Words = NDArray[np.uint32]
KEY_B = 32
_BLOCK_B = 256 * 1024  # of key stream at once: it is added while it is in the cache
_NONCE = bytes(12)  # each key seals one message


def public(private: bytes) -> bytes:
    """The X25519 public key of a private one."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agree(private: bytes, other: bytes, info: bytes) -> bytes:
    """The 32 bytes that two sides share for one purpose. Raises JobError for a key that is none."""
    try:
        shared = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError as error:
        raise JobError("a key of another client is no key", hint="It or the server is not to be trusted.") from error
    return HKDF(algorithm=hashes.SHA256(), length=KEY_B, salt=None, info=info).derive(shared)


def own_mask(seed: bytes) -> bytes:
    """The key of the mask that a seed stands for: the seed itself is shared, and used for nothing else."""
    return HKDF(algorithm=hashes.SHA256(), length=KEY_B, salt=None, info=b"own mask").derive(seed)


def seal(key: bytes, message: bytes) -> bytes:
    """Encrypted and authenticated. A key must seal no second message."""
    return ChaCha20Poly1305(key).encrypt(_NONCE, message, None)


def unseal(key: bytes, sealed: bytes) -> bytes:
    """Raises JobError if it was changed on the way."""
    try:
        return ChaCha20Poly1305(key).decrypt(_NONCE, sealed, None)
    except InvalidTag as error:
        raise JobError("a message between clients was changed on its way", hint="Do not trust this server.") from error


def identity(private: bytes) -> bytes:
    """The Ed25519 public key of a private one."""
    return Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def sign(private: bytes, message: bytes) -> bytes:
    """64 bytes."""
    return Ed25519PrivateKey.from_private_bytes(private).sign(message)


def signed(identity: bytes, message: bytes, signature: bytes) -> bool:
    """Whether that identity has signed that message."""
    try:
        Ed25519PublicKey.from_public_bytes(identity).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


class Stream:
    """A key's AES-256-CTR stream, in blocks of words. A key is used for one stream only."""

    def __init__(self, key: bytes) -> None:
        self._cipher = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()
        self._place = bytearray(_BLOCK_B + 15)
        self._words = np.frombuffer(self._place, "<u4", _BLOCK_B // 4)

    def words(self, count: int) -> Words:
        """The next words, at most `BLOCK`; good until the next call."""
        self._cipher.update_into(_ZERO[: 4 * count], self._place)
        return self._words[:count]


BLOCK = _BLOCK_B // 4
_ZERO = memoryview(bytes(_BLOCK_B))


def add_mask(words: Words, key: bytes, *, negative: bool = False) -> None:
    """Add the key's mask to the words in place, modulo 2^32; or take it off."""
    stream, change = Stream(key), np.subtract if negative else np.add
    for start in range(0, len(words), BLOCK):
        part = words[start : start + BLOCK]
        change(part, stream.words(len(part)), out=part)
