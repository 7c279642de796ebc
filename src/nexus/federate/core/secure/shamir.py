"""Share 32 secret bytes so that any `threshold` shares give them back, and fewer say nothing (Shamir 1979).

Over the integers modulo 2^256 + 297, a prime. A share is 33 bytes, whatever the secret.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nexus.kernel.errors import JobError

PRIME = 2**256 + 297
SHARE_B = 33


def split(secret: bytes, threshold: int, count: int, fresh: Callable[[], bytes]) -> list[bytes]:
    """The shares of points 1 to `count`. `fresh` gives 32 random bytes a call."""
    coefficients = [int.from_bytes(secret, "big")]
    # 64 bytes a coefficient: reduced modulo the prime, they are uniform but for 2^-255
    coefficients += [int.from_bytes(fresh() + fresh(), "big") % PRIME for _ in range(threshold - 1)]
    shares = []
    for point in range(1, count + 1):
        value = 0
        for coefficient in reversed(coefficients):
            value = (value * point + coefficient) % PRIME
        shares.append(value.to_bytes(SHARE_B, "big"))
    return shares


def weights(points: Sequence[int]) -> list[int]:
    """What the shares at these points count: Lagrange's coefficients at 0. The same for every secret shared so."""
    found = []
    for point in points:
        top, bottom = 1, 1
        for other in points:
            if other != point:
                top = top * other % PRIME
                bottom = bottom * (other - point) % PRIME
        found.append(top * pow(bottom, -1, PRIME) % PRIME)
    return found


def join(shares: Sequence[bytes], counted: Sequence[int]) -> bytes:
    """The secret of shares with their `weights`. Raises JobError if they are shares of no 32 bytes."""
    value = sum(int.from_bytes(share, "big") * weight for share, weight in zip(shares, counted, strict=True)) % PRIME
    if value >= 2**256:
        raise JobError("shares of a key do not fit together", hint="A client has lied; no sum was made.")
    return value.to_bytes(32, "big")
