"""No update is longer than `limit`: a bad one can do as much as a good one, and no more.

Sun et al., Can You Really Backdoor Federated Learning?, 2019, section 5: delta * min(1, limit / |delta|).
"""

from __future__ import annotations

from dataclasses import dataclass

from nexus.federate.core.algorithm import Vectors
from nexus.federate.core.defence import Combined, Scene
from nexus.federate.core.mixture import clip_factors, scaled
from nexus.federate.core.stack import Stack
from nexus.kernel.errors import UsageError


@dataclass(frozen=True)
class NormClip:
    """`limit` is an L2 norm; 0: the median norm of the round."""

    limit: float = 0.0

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if self.limit < 0:
            raise UsageError("defence.limit must be 0 or more", hint="0: the median norm of each round.")

    def keeps(self, sends: dict[str, int], clients: int) -> dict[str, int]:
        return {}

    def combine(self, stack: Stack, memory: Vectors, scene: Scene) -> Combined:
        factors = clip_factors(stack.norms(), self.limit)
        notes = {client: {"trust": float(by)} for client, by in zip(stack.clients, factors, strict=True)}
        return scaled(stack, factors, float(stack.weights.sum()), notes)
