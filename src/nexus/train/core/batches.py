"""Which rows at which step, and how large a step: functions of seed and step alone, so a restart changes nothing."""

from __future__ import annotations

import math
import random
from functools import lru_cache

from nexus.train.model import TuneSettings


def rows_at(step: int, count: int, size: int, seed: int) -> list[int]:
    """The `size` rows, of `count`, of one step: passes over all rows in ever new orders, one after the other."""
    places = range(step * size, (step + 1) * size)
    return [_order(count, seed + place // count)[place % count] for place in places]


def rate_at(step: int, settings: TuneSettings) -> float:
    """The learning rate: up in a line over the warm-up, then down by a cosine to a tenth."""
    if step < settings.warmup:
        return settings.lr * (step + 1) / settings.warmup
    share = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return settings.lr * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))


@lru_cache(maxsize=4)
def _order(count: int, seed: int) -> tuple[int, ...]:
    order = list(range(count))
    random.Random(seed).shuffle(order)  # noqa: S311 (an order, not a secret)
    return tuple(order)
