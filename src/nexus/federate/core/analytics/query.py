"""A question is an algorithm whose clients count instead of training: they send one vector, and the server only sums.

So everything that carries updates carries answers: simulation, a run, the journal, privacy, secure aggregation. A
subclass says what a client counts and what the server makes of the sum; it may ask in several rounds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from nexus.federate.core.algorithm import State, Step, Trainer, Vector, Vectors
from nexus.kernel.errors import UsageError

if TYPE_CHECKING:
    from nexus.federate.core.packing import Packing
    from nexus.federate.core.total import Total


@dataclass(frozen=True)
class Query(ABC):
    """`each`: at most so many of a client's values count, drawn anew in every round; 0: all.

    With `each`, what a client sends is divided by it, so that its length is bounded and a privacy's `clip` has a
    meaning: 1 for counts, 1.8 for the mean of values within `low` and `high`.
    """

    words: ClassVar[bool] = False  # whether values are words (rows of bytes) and not numbers

    each: int = 0

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if self.each < 0:
            raise UsageError("each must be 0 or more", hint="0: all of a client's values count.")

    @property
    @abstractmethod
    def length(self) -> int:
        """Of the vector that is sent, and of what the server asks with."""

    @property
    def rounds(self) -> int:
        """How often it asks."""
        return 1

    @abstractmethod
    def count(self, values: Any, asked: Vector, number: int, dice: Any) -> Vector:
        """Client: the vector for its values. `asked` is what the server asks with in round `number`."""

    @abstractmethod
    def conclude(self, state: State, sums: Vector, clients: int) -> State:
        """Server: what it asks with next (the `model`), and what it knows, from the sum over `clients`.

        `state.number` is that of the round that has ended.
        """

    @abstractmethod
    def answer(self, state: State) -> dict[str, float]:
        """What is known after a round."""

    # ------------------------------------------------------------------ as an algorithm

    def begin(self, model: Vector, *, trainable: int, clients: int) -> State:
        return State(number=0, model=model * 0, trainable=trainable, clients=clients)

    def plan(self, state: State) -> dict[str, Vector]:
        return {"model": state.model}

    def sends(self, state: State) -> dict[str, int]:
        return {"delta": self.length}

    def keeps(self, state: State) -> dict[str, int]:
        return {}

    def local(self, plan: Vectors, trainer: Trainer, kept: Vectors) -> Step:
        import numpy as np  # not by those who only read a job file

        dice = trainer.dice("query")
        values = np.asarray(trainer.data[0])
        if self.each and len(values) > self.each:
            values = values[np.sort(dice.permutation(len(values))[: self.each])]
        counted = self.count(values, plan["model"], trainer.number, dice)
        return Step({"delta": (counted / (self.each or 1)).astype(np.float32)}, 0.0)

    def received(self, plan: Vectors, update: Vectors) -> Vectors:
        return update

    def weight(self, samples: int) -> float:
        return 1.0

    def advance(self, state: State, total: Total) -> State:
        sums = total.sums["delta"].astype("float64") * (total.count / total.weight * (self.each or 1))
        return self.conclude(replace(state, number=state.number + 1), sums, total.count)

    def packing(self, state: State) -> dict[str, Packing]:
        return {}

    def notes(self, state: State) -> dict[str, float]:
        return self.answer(state)

    def over(self, state: State) -> str:
        return "the question is answered" if state.number >= self.rounds else ""


@dataclass(frozen=True)
class Bounded(Query):
    """A question about numbers that are held within `low` and `high`."""

    low: float = 0.0
    high: float = 0.0

    @property
    def bounded(self) -> bool:
        """Whether there are bounds."""
        return self.low < self.high

    def need_bounds(self, why: str) -> None:
        """Raises UsageError where there are none."""
        if not self.bounded:
            raise UsageError(f"{why}: low must be below high", hint="For example --set low=0 --set high=100.")
