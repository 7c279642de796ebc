"""Bad clients send the opposite of what they learned, `scale` times as large."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nexus.federate.core.algorithm import Step, Trainer, Vectors
from nexus.federate.core.layer import Layer
from nexus.federate.core.seeds import is_bad
from nexus.kernel.errors import UsageError


@dataclass(frozen=True)
class SignFlip(Layer):
    """`part` of all clients are bad, the same ones in every round."""

    part: float = 0.2
    scale: float = 1.0

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if not 0 <= self.part < 1:
            raise UsageError("attack.part must be from 0 to below 1", hint="0.2: every fifth client is bad.")

    def local(self, plan: Vectors, trainer: Trainer, kept: Vectors) -> Step:
        step = self.inner.local(plan, trainer, kept)
        if not is_bad(self.seed, trainer.client, self.part):
            return step
        return replace(step, send=step.send | {"delta": step.send["delta"] * -self.scale})
