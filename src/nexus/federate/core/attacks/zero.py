"""Bad clients send nothing but zeros, and are counted all the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nexus.federate.core.attack import Attack


@dataclass(frozen=True)
class Zero(Attack):
    """Their weight in the mean is what holds the others back."""

    def lied(self, delta: Any, dice: Any) -> Any:
        return delta * 0
