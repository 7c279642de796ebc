"""Everybody alike: `cohort` clients, uniformly and without repetition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from nexus.federate.core.draws import Sampling
from nexus.federate.core.seeds import choose_cohort
from nexus.federate.model import Round


@dataclass(frozen=True)
class Uniform:
    """The sampling of McMahan et al. 2017."""

    sampling: ClassVar[Sampling] = Sampling.FIXED

    def choose(self, seed: int, number: int, clients: int, size: int, past: Sequence[Round]) -> tuple[int, ...]:
        return choose_cohort(seed, number, clients, size)

    def most(self, clients: int, size: int) -> int:
        return size
