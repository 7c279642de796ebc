"""Only the largest changes travel; what was left out is remembered, and added to the next update.

Stich et al., Sparsified SGD with Memory, 2018. Without the memory (`memory` = 0), small changes are lost for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nexus.federate.core.algorithm import State, Step, Trainer, Vectors
from nexus.federate.core.layer import Layer
from nexus.federate.core.packing import Sparse
from nexus.kernel.errors import UsageError

if TYPE_CHECKING:
    from nexus.federate.core.packing import Packing

_LEFT = "compression.left"


@dataclass(frozen=True)
class TopK(Layer):
    """The `part` of all coordinates with the largest changes."""

    part: float = 0.1
    memory: float = 1.0

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if not 0 < self.part <= 1:
            raise UsageError("compression.part must be above 0 and at most 1", hint="0.1: every tenth coordinate.")

    def keeps(self, state: State) -> dict[str, int]:
        own = {_LEFT: len(state.model)} if self.memory else {}
        return self.inner.keeps(state) | own

    def local(self, plan: Vectors, trainer: Trainer, kept: Vectors) -> Step:
        step = self.inner.local(plan, trainer, kept)
        wanted = step.send["delta"] + kept[_LEFT] if self.memory else step.send["delta"].copy()
        count = max(1, round(self.part * len(wanted)))
        left_out = np.argpartition(np.abs(wanted), len(wanted) - count)[: len(wanted) - count]
        sent = wanted.copy()
        sent[left_out] = 0.0
        keep = step.keep | ({_LEFT: wanted - sent} if self.memory else {})
        return replace(step, send=step.send | {"delta": sent}, keep=keep)

    def packing(self, state: State) -> dict[str, Packing]:
        return self.inner.packing(state) | {"delta": Sparse()}
