"""What a machine that does not run yet would cost: all of it, from the start, whatever part of it tasks hold.

On a node that exists a task is charged the share that it holds. A machine that is started for a task costs its whole
price, so one that fits closely beats a larger one of the same price for each accelerator.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from nexus.launch.core.placement.need import need_key, share_of
from nexus.launch.model import Offer, RunPlan

_SMALLER_FIRST = 1e-12  # per cpu: between machines that cost nothing, the smaller share of a node is taken


def rented_price(plan: RunPlan, wanted: Iterable[tuple[str, int]], offer: Offer) -> float:
    """The machine's price divided by the part of it that these tasks would fill: as if its rest were theirs to pay."""
    filled = filled_part(plan, wanted, offer)
    return (offer.price + _SMALLER_FIRST * offer.capacity.cpu) / filled if filled else offer.price


def filled_part(plan: RunPlan, wanted: Iterable[tuple[str, int]], offer: Offer) -> float:
    """How much of one such machine the tasks would hold together, 0..1, when as many go there as fit."""
    capacity = offer.capacity
    left = 1.0
    for name, count in Counter(name for name, _ in wanted).items():
        share = share_of(need_key(plan.role(name)), len(capacity.gpus), capacity.cpu, capacity.memory_b)
        fit = min(count, int(left / share + 1e-9)) if share else count
        left = max(0.0, left - fit * share)
    return 1.0 - left
