"""The exact Shapley value of every round's game, summed over rounds.

Song, Tong & Wei, Profit Allocation for Federated Learning, 2019: models of all groups are put together from the round's
updates, so that nobody trains again (their multi-round estimate, without decay):
    share_i = sum over groups S without i of |S|! (n - |S| - 1)! / n! * (value(S + i) - value(S)).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING

import numpy as np

from nexus.federate.core.contribution.game import Game
from nexus.federate.core.contribution.measure import Play
from nexus.kernel.errors import UsageError

if TYPE_CHECKING:
    from nexus.federate.core.defence import Scene
    from nexus.federate.core.stack import Stack

_MOST = 14  # clients: 2^14 models a round


@dataclass(frozen=True)
class MrShapley:
    """2^n models a round. With `by_loss` 1 in units of the loss, else of the task's first metric."""

    by_loss: int = 0

    def measure(self, stack: Stack, play: Play, scene: Scene) -> dict[int, dict[str, float]]:
        count = len(stack)
        if count > _MOST:
            raise UsageError(
                f"mr_shapley would look at 2^{count} models a round",
                hint=f"Use gtg_shapley, or a cohort of {_MOST} at most.",
            )
        game = Game(stack, play, bool(self.by_loss))
        shares = np.zeros(count)
        for group in range(game.everybody + 1):
            size = group.bit_count()
            for at in range(count):
                if not group >> at & 1:
                    gained = game.value(group | 1 << at) - game.value(group)
                    shares[at] += gained / (count * comb(count - 1, size))
        return game.notes(shares)
