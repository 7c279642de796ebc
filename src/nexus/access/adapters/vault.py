"""Secrets at rest: AES-256-GCM envelopes, and the keys that close them.

Each value has a data key of its own, and that is wrapped by the server's key: a new server key wraps the data keys
again and touches no value. What a value is about (its project and name) is authenticated with it, so that a row that
was moved or copied does not open.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from nexus.access.model import Envelope
from nexus.kernel.errors import NotFoundError, UsageError

VARIABLE = "NEXUS_SECRETS_KEY"
_KEY_B, _NONCE_B = 32, 12


class KeyVault:
    """Implements `ports.Vault` over the key file of a home, or over keys that a person keeps (NEXUS_SECRETS_KEY).

    Either way keys are written as 64 hex digits; in the file one a line, in the variable with commas; the first is the
    one in use, the others only open what they once wrapped.
    """

    def __init__(self, file: Path, environ: Mapping[str, str] | None = None) -> None:
        self._file = file
        self._given = (os.environ if environ is None else environ).get(VARIABLE, "")

    def seal(self, value: bytes, about: str) -> Envelope:
        data_key = os.urandom(_KEY_B)
        name, key = self._newest()
        return Envelope(
            key=name,
            wrapped=_encrypt(key, data_key, f"data key|{about}"),
            sealed=_encrypt(data_key, value, f"value|{about}"),
        )

    def open(self, envelope: Envelope, about: str) -> bytes:
        return _decrypt(self._data_key(envelope, about), envelope.sealed, f"value|{about}")

    def rewrap(self, envelope: Envelope, about: str) -> Envelope:
        name, key = self._newest()
        wrapped = _encrypt(key, self._data_key(envelope, about), f"data key|{about}")
        return Envelope(key=name, wrapped=wrapped, sealed=envelope.sealed)

    def renew(self) -> str:
        if self._given:
            return self._newest()[0]  # whoever keeps the keys has put the new one first
        self._write([os.urandom(_KEY_B), *self._keys().values()])
        return self._newest()[0]

    def forget(self) -> None:
        if not self._given:
            self._write([self._newest()[1]])

    def _data_key(self, envelope: Envelope, about: str) -> bytes:
        key = self._keys().get(envelope.key)
        if key is None:
            raise NotFoundError(
                f"the key {envelope.key} that this secret was closed with is not here",
                hint=f"Put back {self._file}, or name the key in {VARIABLE}; or set the secret again.",
            )
        return _decrypt(key, envelope.wrapped, f"data key|{about}")

    def _newest(self) -> tuple[str, bytes]:
        keys = self._keys()
        if not keys:
            self._write([os.urandom(_KEY_B)])
            keys = self._keys()
        return next(iter(keys.items()))

    def _keys(self) -> dict[str, bytes]:
        """By name, the one in use first. They are read anew each time: another server process may have renewed them."""
        try:
            text = self._given or self._file.read_text()
        except FileNotFoundError:
            return {}
        keys = [_key(word) for word in text.replace(",", " ").split()]
        return {hashlib.sha256(b"nexus key name" + key).hexdigest()[:12]: key for key in keys}

    def _write(self, keys: list[bytes]) -> None:
        draft = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write("".join(key.hex() + "\n" for key in keys))
            file.flush()
            os.fsync(file.fileno())  # without it every secret is lost
        draft.replace(self._file)


def _key(word: str) -> bytes:
    try:
        key = bytes.fromhex(word)
    except ValueError:
        key = b""
    if len(key) != _KEY_B:  # never shown: it may be a key with one digit too few
        raise UsageError("a key of secrets is not 64 hex digits", hint=f"openssl rand -hex 32 makes one ({VARIABLE}).")
    return key


def _encrypt(key: bytes, value: bytes, about: str) -> str:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(_NONCE_B)
    return base64.b64encode(nonce + AESGCM(key).encrypt(nonce, value, about.encode())).decode()


def _decrypt(key: bytes, text: str, about: str) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    data = base64.b64decode(text)
    try:
        return AESGCM(key).decrypt(data[:_NONCE_B], data[_NONCE_B:], about.encode())
    except InvalidTag as error:
        raise UsageError(
            "a secret does not open: it was changed in the database, or belongs elsewhere", hint="Set it again."
        ) from error
