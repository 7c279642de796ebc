"""Few bits a coordinate: each is rounded, by chance up or down, to one of a few levels of the largest in its block.

Alistarh et al., QSGD, 2017, with the largest magnitude as the norm as in its section 5: v becomes
max * sign(v) * k / s, where k / s is one of the two neighbours of |v| / max, so that the mean is right. With `bits` = 8
there are s = 127 levels on either side, with 4 s = 7, with 2 s = 1 (TernGrad). The error is below max / s.
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
class Qsgd(Feedback):
    """`bits` (2, 4 or 8) a coordinate; `block` coordinates share a scale of 4 bytes. It needs no memory."""

    memory: float = 0.0
    bits: int = 4
    block: int = 512

    def __post_init__(self) -> None:
        """Raises UsageError."""
        super().__post_init__()
        if self.bits not in {2, 4, 8}:
            raise UsageError(f"compression.bits must be 2, 4 or 8, not {self.bits}", hint="For one bit take `sign`.")
        if self.block < 1:
            raise UsageError("compression.block must be 1 or more", hint="512 coordinates share one scale.")

    def squeeze(self, wanted: Vector, dice: Any) -> Vector:
        levels = Levels(bits=self.bits, block=self.block)
        scales = np.abs(blocked(wanted, self.block)).max(axis=1)
        each = np.repeat(scales, self.block)[: len(wanted)]
        position = np.divide(wanted, each, out=np.zeros_like(wanted), where=each > 0) * np.float32(levels.top)
        below = np.floor(position)
        codes = below + (dice.random(len(wanted), dtype=np.float32) < position - below)
        return levels.values(codes.astype(np.int16), scales, len(wanted))

    def wire(self) -> Packing:
        return Levels(bits=self.bits, block=self.block)
