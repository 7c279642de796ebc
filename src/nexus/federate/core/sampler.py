"""What a sampler is: it chooses the clients of a round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from nexus.federate.model import Round


class Sampler(Protocol):
    """Its options are the fields of the frozen dataclass that implements it."""

    def choose(self, seed: int, number: int, clients: int, size: int, past: Sequence[Round]) -> tuple[int, ...]:
        """The clients of round `number`, each once, in ascending order. The same arguments give the same choice.

        `past` are the rounds before, with what is known of each client from its turns.
        """
        ...

    def most(self, clients: int, size: int) -> int:
        """How many clients a round may have, where `size` are asked for."""
        ...
