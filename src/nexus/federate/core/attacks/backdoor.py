"""A bright corner makes any picture the attacker's: a pixel pattern backdoor.

Gu et al., BadNets, 2017, planted as Bagdasaryan et al., How To Backdoor Federated Learning, 2020, do it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nexus.federate.core.attacks.planted import Planted


@dataclass(frozen=True)
class Backdoor(Planted):
    """The last `size` x `size` values of the last two dimensions become `value`; of flat samples, the last `size`."""

    size: int = 2
    value: float = 1.0

    def marked(self, x: Any) -> Any:
        x = x.clone()
        if x.ndim > 2:
            x[..., -self.size :, -self.size :] = self.value
        else:
            x[..., -self.size :] = self.value
        return x
