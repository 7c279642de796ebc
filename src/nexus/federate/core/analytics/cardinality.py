"""How many different words there are, over all clients.

Flajolet et al., HyperLogLog, 2007, with a sum in the place of its maximum: a client says 1 where its registers reach a
level, and a register's level is the highest that anybody reached. The standard error is 1.04 / sqrt(registers).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from nexus.federate.core.algorithm import State, Vector
from nexus.federate.core.analytics.query import Query
from nexus.federate.core.analytics.wordcells import counted, hashed
from nexus.kernel.errors import UsageError

_LEVELS = 32


@dataclass(frozen=True)
class Cardinality(Query):
    """`registers` registers, a power of two: 1024 are right to 3 %."""

    words: ClassVar[bool] = True

    registers: int = 1024

    def __post_init__(self) -> None:
        """Raises UsageError."""
        super().__post_init__()
        if self.registers < 128 or self.registers & (self.registers - 1):
            raise UsageError("registers must be a power of two, 128 or more", hint="1024 are right to 3 %.")

    @property
    def length(self) -> int:
        return self.registers * _LEVELS

    def count(self, values: Any, asked: Vector, number: int, dice: Any) -> Vector:
        import numpy as np

        reached = np.zeros((self.registers, _LEVELS))
        for word in counted(values):
            bits = hashed(word, 0)
            rest = bits // self.registers
            level = min((rest & -rest).bit_length() if rest else _LEVELS, _LEVELS)  # zeros at its end, and one
            reached[bits % self.registers, level - 1] = 1.0
        return reached.reshape(-1)

    def conclude(self, state: State, sums: Vector, clients: int) -> State:
        return replace(state, model=sums.astype("float32"))

    def answer(self, state: State) -> dict[str, float]:
        import numpy as np

        reached = state.model.reshape(self.registers, _LEVELS) > 0.5
        levels = np.where(reached.any(axis=1), _LEVELS - reached[:, ::-1].argmax(axis=1), 0)
        size, empty = self.registers, int((levels == 0).sum())
        found = 0.7213 / (1 + 1.079 / size) * size**2 / float((2.0**-levels).sum())
        if found <= 2.5 * size and empty:
            found = size * math.log(size / empty)
        return {"different": found, "error": found * 1.04 / math.sqrt(size)}
