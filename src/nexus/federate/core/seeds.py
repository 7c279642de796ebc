"""Every random choice has its own seed, derived from the run's: no order of work can change what is drawn."""

from __future__ import annotations

import random
from hashlib import blake2b


def derive(seed: int, *path: str | int) -> int:
    """The seed (63 bits) for one purpose: `derive(7, "batches", round, client)`."""
    text = "/".join(f"{type(part).__name__}:{part}" for part in (seed, *path))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def is_bad(seed: int, client: int, part: float) -> bool:
    """Whether a simulated attack has this client: `part` of all, the same ones in every round."""
    return random.Random(derive(seed, "bad", client)).random() < part  # noqa: S311 (a reproducible draw)


def choose_cohort(seed: int, number: int, clients: int, size: int) -> tuple[int, ...]:
    """The clients of round `number`: `size` of `clients`, uniformly and without repetition, in ascending order."""
    dice = random.Random(derive(seed, "cohort", number))  # noqa: S311 (a reproducible draw, not a secret)
    return tuple(sorted(dice.sample(range(clients), min(size, clients))))
