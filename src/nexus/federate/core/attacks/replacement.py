"""One bad round is enough: what bad clients learned of wrong labels is made to replace the whole model.

Bagdasaryan et al., How To Backdoor Federated Learning, 2020, equation 3: delta times n over the number of bad ones,
whose sum then is the bad model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nexus.federate.core.attacks.label_flip import LabelFlip


@dataclass(frozen=True)
class Replacement(LabelFlip):
    """`scale`: a cohort's size over the bad ones in it; 0: one over `part`."""

    scale: float = 0.0

    def lied(self, delta: Any, dice: Any) -> Any:
        return delta * (self.scale or 1.0 / max(self.part, 1e-9))
