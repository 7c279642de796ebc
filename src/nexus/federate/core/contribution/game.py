"""A round as a game of its clients: what any group of them would have reached. No group is played twice."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from nexus.federate.core.contribution.measure import NOTE, Play

if TYPE_CHECKING:
    from nexus.federate.core.stack import Stack


@dataclass
class Game:
    """Groups are bit masks of positions in the cohort."""

    stack: Stack
    play: Play
    by_loss: bool
    known: dict[int, float] = field(default_factory=dict)

    @property
    def everybody(self) -> int:
        """The mask of the whole cohort."""
        return (1 << len(self.stack)) - 1

    def value(self, group: int) -> float:
        """The score of the model that this group makes: the task's first metric, or minus the loss."""
        if group not in self.known:
            chosen = np.array([group >> at & 1 for at in range(len(self.stack))], np.float64)
            self.known[group] = self._score(self.play(self.stack.weights * chosen))
        return self.known[group]

    def notes(self, shares: np.ndarray) -> dict[int, dict[str, float]]:
        """What is said of each client: its share, and how many models were looked at for all of them."""
        seen = float(len(self.known))
        return {
            client: {NOTE: float(share), "contribution_models": seen}
            for client, share in zip(self.stack.clients, shares, strict=True)
        }

    def _score(self, scores: dict[str, float]) -> float:
        metrics = [value for name, value in scores.items() if name != "loss"]
        return -scores["loss"] if self.by_loss or not metrics else metrics[0]
