"""Leases on the agent's own monotonic clock.

A lease is counted from the moment the request was *sent* whose answer granted it. The server counts from the moment it
got the request, which is later; so the agent's view of a lease always ends first, and two machines never both hold one.
"""

from __future__ import annotations

from collections.abc import Mapping

from nexus.launch.protocol import Desired


def renewed(leases: Mapping[str, float], desired: Desired, sent_at: float) -> dict[str, float]:
    """Every lease after an answer to a request that was sent at `sent_at`. A late answer never shortens one."""
    granted = {order.task: sent_at + order.lease_s for order in desired.orders}
    return {task: max(until, leases.get(task, until)) for task, until in granted.items()} | {
        task: until for task, until in leases.items() if task not in granted
    }


def next_expiry(leases: Mapping[str, float], live: frozenset[str], now: float, longest_s: float) -> float:
    """Seconds until the first lease of a live task ends; at most `longest_s`."""
    left = [leases[task] - now for task in live if task in leases]
    return max(0.0, min([*left, longest_s]))


def delay_s(failures: int, chance: float, *, first_s: float = 0.1, longest_s: float = 10.0) -> float:
    """How long to wait after so many failures in a row: doubling, with `chance` in 0..1 spreading the second half."""
    whole = min(longest_s, first_s * 2.0 ** min(failures, 16))
    return whole * (0.5 + 0.5 * chance)
