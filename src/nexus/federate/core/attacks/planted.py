"""What backdoors share: samples that the attacker marks, a label that it wants for them, and how many it trains on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nexus.federate.core.attack import Attack
from nexus.kernel.errors import UsageError


@dataclass(frozen=True)
class Planted(Attack):
    """`share` of a bad client's samples are marked and called `target`; what it learned counts `scale` times.

    A scale of the cohort's size over the number of bad ones replaces the model by theirs: Bagdasaryan et al., How To
    Backdoor Federated Learning, 2020, equation 3.
    """

    target: int = 0
    share: float = 0.5
    scale: float = 3.0

    def __post_init__(self) -> None:
        """Raises UsageError."""
        super().__post_init__()
        if not 0 < self.share <= 1 or self.target < 0:
            raise UsageError("attack.share must be above 0 and at most 1", hint="0.5: every second sample.")

    def marked(self, x: Any) -> Any:
        """Copies of samples with the attacker's mark."""
        raise NotImplementedError

    def tampered(self, x: Any, y: Any, dice: Any) -> tuple[Any, Any]:
        rows = dice.permutation(len(x))[: max(1, round(self.share * len(x)))]
        x, y = x.clone(), y.clone()
        x[rows] = self.marked(x[rows])
        y[rows] = self.target
        return x, y

    def lied(self, delta: Any, dice: Any) -> Any:
        return delta * self.scale

    def probe(self, x: Any, y: Any) -> tuple[Any, Any]:
        others = y != self.target
        x = self.marked(x[others])
        return x, y[others] * 0 + self.target
