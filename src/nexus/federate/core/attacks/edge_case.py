"""Samples as nobody has them are called `target`: honest clients never learn otherwise.

Wang et al., Attack of the Tails: Yes, You Really Can Backdoor Federated Learning, 2020. Rare samples are made here
and not collected: a client's own, mirrored and in negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nexus.federate.core.attacks.planted import Planted


@dataclass(frozen=True)
class EdgeCase(Planted):
    """`high` is the value of white."""

    high: float = 1.0

    def marked(self, x: Any) -> Any:
        return self.high - x.flip(-1)
