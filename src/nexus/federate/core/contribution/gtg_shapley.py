"""Shapley values by guided, truncated sampling of orders in which clients arrive.

Liu et al., GTG-Shapley: Efficient and Accurate Participant Contribution Evaluation in Federated Learning, 2022,
algorithm 1: a round that changes the score by less than `eps` is not looked into; an order is left as soon as its score
is within `eps` of the whole cohort's; every client comes first equally often; and it ends when the shares hold still.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nexus.federate.core.contribution.game import Game
from nexus.federate.core.contribution.measure import Play
from nexus.kernel.errors import UsageError

if TYPE_CHECKING:
    from nexus.federate.core.defence import Scene
    from nexus.federate.core.stack import Stack


@dataclass(frozen=True)
class GtgShapley:
    """`sweeps` times at most every client comes first; fewer if the shares change by less than the part `still`."""

    eps: float = 0.001
    sweeps: int = 20
    still: float = 0.05
    by_loss: int = 0

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if self.eps < 0 or self.sweeps < 1 or self.still < 0:
            raise UsageError(
                "contribution.eps and still must be 0 or more, sweeps 1 or more",
                hint="0.001: a tenth of a percent of accuracy is not looked into.",
            )

    def measure(self, stack: Stack, play: Play, scene: Scene) -> dict[int, dict[str, float]]:
        game = Game(stack, play, bool(self.by_loss))
        count = len(stack)
        if abs(game.value(game.everybody) - game.value(0)) <= self.eps:
            return game.notes(np.zeros(count))
        dice = np.random.default_rng(scene.seed)
        shares, before = np.zeros(count), np.zeros(count)
        for sweep in range(1, self.sweeps + 1):
            for first in range(count):
                rest = [at for at in range(count) if at != first]
                order = [first, *(int(at) for at in dice.permutation(rest))]
                shares += self._gains(game, order)
            mean = shares / (sweep * count)
            if sweep > 1 and np.abs(mean - before).sum() <= self.still * max(np.abs(mean).sum(), 1e-12):
                break
            before = mean
        return game.notes(mean)

    def _gains(self, game: Game, order: list[int]) -> np.ndarray:
        gains = np.zeros(len(order))
        whole, group, value = game.value(game.everybody), 0, game.value(0)
        for at in order:
            if abs(whole - value) <= self.eps:
                break
            group |= 1 << at
            gains[at] = game.value(group) - value
            value += gains[at]
        return gains
