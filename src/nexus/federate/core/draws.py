"""What privacy must know of a run: how its clients are drawn, and where noise comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from nexus.federate.core.seeds import derive


class Sampling(StrEnum):
    """How a sampler draws a cohort, as far as not being drawn hides a client. Its class says so as `sampling`."""

    FIXED = "fixed"  # so many clients, uniformly, none twice
    POISSON = "poisson"  # every client with the same chance, whatever happens to the others
    OTHER = "other"  # anything else: it may always be the same ones, so it hides nobody


@dataclass(frozen=True)
class Draws:
    """`secret` gives 32 fresh bytes at every call; without it (in simulation) noise follows from the run's seed."""

    sampling: Sampling = Sampling.FIXED
    cohort: int = 1
    secret: Callable[[], bytes] | None = None

    def key(self, seed: int, *path: str | int, seeded: bool = False) -> bytes:
        """32 bytes for one vector of noise."""
        if self.secret is not None and not seeded:
            return self.secret()
        return sha256(str(derive(seed, *path)).encode()).digest()
