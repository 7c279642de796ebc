"""Only the largest changes travel: `part` of all coordinates.

Stich et al., Sparsified SGD with Memory, 2018. Without the memory, small changes are lost for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nexus.federate.core.algorithm import Vector
from nexus.federate.core.compression.feedback import Feedback
from nexus.federate.core.packing import Sparse
from nexus.kernel.errors import UsageError

if TYPE_CHECKING:
    from nexus.federate.core.packing import Packing


@dataclass(frozen=True)
class TopK(Feedback):
    """The `part` of all coordinates with the largest changes."""

    part: float = 0.1

    def __post_init__(self) -> None:
        """Raises UsageError."""
        super().__post_init__()
        if not 0 < self.part <= 1:
            raise UsageError("compression.part must be above 0 and at most 1", hint="0.1: every tenth coordinate.")

    def squeeze(self, wanted: Vector, dice: Any) -> Vector:
        count = max(1, round(self.part * len(wanted)))
        chosen = np.argpartition(np.abs(wanted), len(wanted) - count)[len(wanted) - count :]
        sent = np.zeros_like(wanted)
        sent[chosen] = wanted[chosen]
        return sent

    def wire(self) -> Packing:
        return Sparse()
