"""Bad clients send the opposite of what they learned, `scale` times as large.

Li et al., RSA: Byzantine-Robust Stochastic Aggregation Methods for Distributed Learning, 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nexus.federate.core.attack import Attack


@dataclass(frozen=True)
class SignFlip(Attack):
    """-scale * delta."""

    scale: float = 1.0

    def lied(self, delta: Any, dice: Any) -> Any:
        return delta * -self.scale
