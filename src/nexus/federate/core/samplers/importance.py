"""Importance: clients with a high loss are chosen more often.

In the manner of Goetz et al., Active Federated Learning, 2019, equation 3: the chance grows with
exp(loss / temperature), the loss being the last one that the client told; clients that told none count as the highest.
Their updates are not weighed down for it: the model is meant to lean towards those it serves badly.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

from nexus.federate.core.samplers.seen import losses
from nexus.federate.core.seeds import derive
from nexus.federate.model import Round
from nexus.kernel.errors import UsageError


@dataclass(frozen=True)
class Importance:
    """A smaller `temperature` (in units of the loss) leans harder; `memory` rounds back losses are looked for."""

    temperature: float = 1.0
    memory: int = 100

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if not self.temperature > 0:
            raise UsageError("sampler.temperature must be above 0", hint="1; 0.2 leans harder, 10 hardly.")
        if self.memory < 1:
            raise UsageError("sampler.memory must be 1 or more", hint="100 rounds.")

    def choose(self, seed: int, number: int, clients: int, size: int, past: Sequence[Round]) -> tuple[int, ...]:
        known = losses(past, self.memory)
        highest = max(known.values(), default=0.0)
        dice = random.Random(derive(seed, "importance", number))  # noqa: S311 (a reproducible draw)
        # the largest of log(u) / weight: a draw without replacement by weight (Efraimidis and Spirakis, 2006)
        keys = {
            client: log(1.0 - dice.random()) / exp((known.get(client, highest) - highest) / self.temperature)
            if (known.get(client, highest) - highest) / self.temperature > -500
            else -float("inf")
            for client in range(clients)
        }
        return tuple(sorted(sorted(keys, key=lambda client: (-keys[client], client))[:size]))

    def most(self, clients: int, size: int) -> int:
        return size
