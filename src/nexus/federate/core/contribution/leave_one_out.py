"""What is lost without a client: value(all) - value(all but it), in every round. Ghorbani & Zou, Data Shapley, 2019, 2.

As many models as clients are looked at. Two clients that do the same make each other worthless.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nexus.federate.core.contribution.game import Game
from nexus.federate.core.contribution.measure import Play

if TYPE_CHECKING:
    from nexus.federate.core.defence import Scene
    from nexus.federate.core.stack import Stack


@dataclass(frozen=True)
class LeaveOneOut:
    """With `by_loss` 1 in units of the loss, else of the task's first metric."""

    by_loss: int = 0

    def measure(self, stack: Stack, play: Play, scene: Scene) -> dict[int, dict[str, float]]:
        game = Game(stack, play, bool(self.by_loss))
        whole = game.value(game.everybody)
        return game.notes(np.array([whole - game.value(game.everybody ^ 1 << at) for at in range(len(stack))]))
