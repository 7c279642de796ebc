"""Names for things: short, random, safe in URLs, file names and shells."""

from __future__ import annotations

import re

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base 32: no i, l, o, u
_ID = re.compile(r"[a-z]{1,8}_[0-9a-hjkmnp-tv-z]{13}")
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")


def new_id(prefix: str, entropy: bytes) -> str:
    """`run_7f3kq0c1m9x2a`: 13 characters from 8 random bytes, which the caller brings."""
    number = int.from_bytes(entropy[:8], "big")
    digits = []
    for _ in range(13):
        number, digit = divmod(number, 32)
        digits.append(_ALPHABET[digit])
    return f"{prefix}_{''.join(reversed(digits))}"


def is_id(text: str) -> bool:
    """Whether `text` has the shape of an id that `new_id` makes."""
    return _ID.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Whether `text` may name a job, model, endpoint or project: lower case, digits, `. _ -`, 63 at most."""
    return _NAME.fullmatch(text) is not None


def to_name(text: str) -> str:
    """The nearest legal name to what a person wrote: `My Job!` becomes `my-job`."""
    cleaned = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:63].strip("-._")
    return cleaned or "job"
