"""Bad clients train on wrong labels: c becomes `classes` - 1 - c.

Tolpegin et al., Data Poisoning Attacks Against Federated Learning Systems, 2020; the flip of all classes is that of
Fang et al., Local Model Poisoning Attacks to Byzantine-Robust Federated Learning, 2020. With `classes` 0 the flip
is among the labels that a client has. With `source` and `target` 0 or more, only that class is called the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nexus.federate.core.attack import Attack
from nexus.kernel.errors import UsageError


@dataclass(frozen=True)
class LabelFlip(Attack):
    """They send what they honestly learned of that, `scale` times as large."""

    classes: int = 0
    source: int = -1
    target: int = -1
    scale: float = 1.0

    def __post_init__(self) -> None:
        """Raises UsageError."""
        super().__post_init__()
        if self.classes < 0 or (self.source < 0) != (self.target < 0):
            raise UsageError("attack.classes must be 0 or more", hint="source comes with a target: source=7, target=1")

    def tampered(self, x: Any, y: Any, dice: Any) -> tuple[Any, Any]:
        if self.source < 0:
            return x, (self.classes - 1 if self.classes else y.max() + y.min()) - y
        flipped = y.clone()
        flipped[y == self.source] = self.target
        return x, flipped

    def lied(self, delta: Any, dice: Any) -> Any:
        return delta * self.scale
