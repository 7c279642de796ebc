"""FedAvg: clients train, the server takes the mean of their changes weighted by samples.

McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data, 2017, algorithm 1;
`lr` is the server's rate (eta_g) of Reddi et al. 2021, 1 in the original.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nexus.federate.core.algorithm import State
from nexus.federate.core.plain import Plain
from nexus.kernel.errors import UsageError

if TYPE_CHECKING:
    from nexus.federate.core.total import Total


@dataclass(frozen=True)
class FedAvg(Plain):
    """Federated averaging."""

    lr: float = 1.0

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if not self.lr > 0:
            raise UsageError("algorithm.lr must be above 0", hint="1 is plain averaging.")

    def advance(self, state: State, total: Total) -> State:
        return replace(state, number=state.number + 1, model=state.model + self.lr * total.mean("delta"))
