"""Passwords, by scrypt: what is kept tells nobody the password, and each guess costs 32 MiB and 0.1 s."""

from __future__ import annotations

import base64
import hashlib
import hmac

from nexus.kernel.errors import UsageError

SHORTEST, LONGEST = 12, 1000
SALT_B = 16
_N, _R, _P = 2**15, 8, 1
_MEMORY_B = 64 * 1024 * 1024


def check_password(password: str) -> None:
    """Refuse what is too short to be one. Raises UsageError."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise UsageError(
            f"a password has {SHORTEST} characters at least, and {LONGEST} at most",
            hint="Four or five unusual words are easy to remember and hard to guess.",
        )


def hash_password(password: str, salt: bytes) -> str:
    """What is kept of a password: `scrypt$n$r$p$salt$hash`."""
    made = hashlib.scrypt(password.encode(), salt=salt, n=_N, r=_R, p=_P, maxmem=_MEMORY_B, dklen=32)
    return "$".join(["scrypt", str(_N), str(_R), str(_P), _text(salt), _text(made)])


def is_password(password: str, kept: str) -> bool:
    """Whether it is the one that was kept. Takes as long when nothing was kept, so that time tells no names."""
    if not kept:
        hash_password(password, b"\0" * SALT_B)
        return False
    _, n, r, p, salt, known = kept.split("$")
    made = hashlib.scrypt(
        password.encode(), salt=_bytes(salt), n=int(n), r=int(r), p=int(p), maxmem=_MEMORY_B, dklen=32
    )
    return hmac.compare_digest(made, _bytes(known))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)
