"""Quotas: whether a project may hold this much more, and in words why not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from nexus.kernel.units import format_bytes
from nexus.launch.core.queue.shares import Amount, Tally
from nexus.launch.model import Quota, Usage

MONTHS = 13  # for how many months the money spent is remembered
_SLACK = 1e-9


def refusal(quota: Quota | None, held: Tally, more: Amount) -> str:
    """Why the project may not hold `more`; empty when it may. The words do not change while others come and go."""
    if quota is None:
        return ""
    have = held.amount
    over: tuple[tuple[str, float | None, float, float, Callable[[float], str]], ...] = (
        ("gpus", quota.gpus, have.gpus + more.gpus, more.gpus, _number),
        ("cpu", quota.cpu, have.cpu + more.cpu, more.cpu, _number),
        ("memory", quota.memory_b, have.memory_b + more.memory_b, more.memory_b, format_bytes),
        ("per hour", quota.price, have.price + more.price, more.price, _money),
    )
    for what, most, together, needed, show in over:
        if needed > 0 and most is not None and together > most + _SLACK:
            most_words, needed_words = show(most), show(needed)
            return f"quota: the project {quota.project} may hold {most_words} {what} at once; this takes {needed_words}"
    return ""


def overspent(quota: Quota | None, usage: Usage | None, held: Tally, now: float) -> str:
    """Why the project may start nothing more this month; empty when it may."""
    if quota is None or quota.budget is None:
        return ""
    if spent_this_month(usage, now) + held.accrued(now) < quota.budget - _SLACK:
        return ""
    return (
        f"quota: the project {quota.project} has spent its budget of {quota.budget:.2f} for {month_of(now)}; "
        "it goes on next month, or when an admin raises it: nexus quota set --budget"
    )


def spent_this_month(usage: Usage | None, now: float) -> float:
    """What ended in this calendar month has cost."""
    return usage.spent.get(month_of(now), 0.0) if usage is not None else 0.0


def month_of(now: float) -> str:
    """`2026-11`, in UTC."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m")


def charged(spent: dict[str, float], cost: float, now: float) -> dict[str, float]:
    """The money by month with `cost` in this one; old months are dropped."""
    month = month_of(now)
    after = {**spent, month: spent.get(month, 0.0) + cost}
    return dict(sorted(after.items())[-MONTHS:])


def _number(value: float) -> str:
    return f"{value:g}"


def _money(value: float) -> str:
    return f"{value:.2f}"
