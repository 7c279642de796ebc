"""One bit a coordinate: whether it goes up or down, and for each `block` of them by how much in the mean.

Karimireddy et al., Error Feedback Fixes SignSGD, 2019: the scale is the block's L1 norm over its length. Bernstein et
al.'s signSGD of 2018 is that without memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nexus.federate.core.algorithm import Vector
from nexus.federate.core.compression.feedback import Feedback
from nexus.federate.core.packing import Levels, blocked
from nexus.kernel.errors import UsageError

if TYPE_CHECKING:
    from nexus.federate.core.packing import Packing


@dataclass(frozen=True)
class Sign(Feedback):
    """The sign of each change. `block` coordinates share a scale of 4 bytes."""

    block: int = 1024

    def __post_init__(self) -> None:
        """Raises UsageError."""
        super().__post_init__()
        if self.block < 1:
            raise UsageError("compression.block must be 1 or more", hint="1024 coordinates share one scale.")

    def squeeze(self, wanted: Vector, dice: Any) -> Vector:
        rows = blocked(np.abs(wanted), self.block)
        lengths = np.full(len(rows), self.block)
        lengths[-1] = len(wanted) - self.block * (len(rows) - 1)
        scales = (rows.sum(axis=1, dtype=np.float64) / lengths).astype(np.float32)
        each = np.repeat(scales, self.block)[: len(wanted)]
        return np.where(wanted < 0, -each, each)

    def wire(self) -> Packing:
        return Levels(bits=1, block=self.block)
