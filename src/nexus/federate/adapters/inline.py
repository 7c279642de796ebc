"""Simulate a round's clients one after another, in this process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from nexus.federate.core.algorithm import State, Vectors
from nexus.federate.core.stack import Stack
from nexus.federate.core.total import Array, OrderedFold, Total
from nexus.federate.core.worker import Worker
from nexus.federate.model import Turn


class Inline:
    """Implements `Engine` without another process."""

    def __init__(self, worker: Worker, state: State) -> None:
        self._worker = worker
        self._sends = worker.algorithm.sends(state)
        self._stacks = worker.composition.stacks
        lengths = worker.algorithm.keeps(state)
        self._kept: defaultdict[int, dict[str, Array]] = defaultdict(
            lambda: {name: np.zeros(length, np.float32) for name, length in lengths.items()}
        )

    def round(self, number: int, plan: Vectors, cohort: Sequence[int]) -> tuple[Total | Stack, list[Turn]]:
        """Every client's turn, folded, or stacked where there is a defence. Raises JobError."""
        fold = OrderedFold(len(cohort), self._sends)
        rows: list[dict[str, Array]] = []
        weights: list[float] = []
        turns = []
        self._worker.expect(cohort, number)
        for position, client in enumerate(cohort):
            turn, step = self._worker.turn(number, client, plan, self._kept[client])
            weights.append(self._worker.algorithm.weight(turn.samples))
            update = self._worker.algorithm.received(plan, step.send)
            if self._stacks:
                rows.append({name: vector.copy() for name, vector in update.items()})
            else:
                fold.add(position, update, weights[-1])
            if step.keep:
                self._kept[client] = step.keep
            turns.append(turn)
        return Stack(cohort, weights, rows) if self._stacks else fold.finish(), turns

    def kept(self, client: int) -> Vectors:
        """What a client keeps."""
        return self._kept[client]

    def restore(self, client: int, vectors: Mapping[str, Array]) -> None:
        """Let a client have kept this."""
        self._kept[client] = {name: vector.copy() for name, vector in vectors.items()}

    def close(self) -> None:
        """Nothing to stop."""
