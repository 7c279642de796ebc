"""One question about a place, for callers that keep no `Rooms`: what `--plan` and people ask."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from nexus.launch.core.placement.rooms import POLICY, Rooms
from nexus.launch.core.placement.search import Want
from nexus.launch.core.policy import Policy
from nexus.launch.model import Node, Placement, Rejection, RunPlan, Task


def place(
    plan: RunPlan,
    wanted: Sequence[Want],
    nodes: Iterable[Node],
    held: Iterable[Task],
    *,
    spent: float = 0.0,
    policy: Policy = POLICY,
    explain: bool = False,
) -> Placement:
    """Places for all of `wanted` at once, or none and every reason why not.

    `held` are the live tasks of all runs; `spent` is what the run's other tasks cost per hour, for its `max_price`.
    Rejections are listed when nothing fits, and always with `explain`.
    """
    rooms = Rooms.of(nodes, held)
    found = rooms.place(plan, wanted, spent=spent, policy=policy, explain=explain)
    return found if found.fits or explain else rooms.place(plan, wanted, spent=spent, policy=policy, explain=True)


def in_words(found: Sequence[Rejection], names: Mapping[str, str], limit: int = 12) -> tuple[str, ...]:
    """One line a node while they are few; else how many nodes each reason has, most first."""
    several = len({one.role for one in found}) > 1
    if len(found) <= limit and all(one.count == 1 for one in found):
        return tuple(
            f"{names.get(one.node, one.node)}{f' ({one.role})' if several else ''}: {one.reason}" for one in found
        )
    counts: defaultdict[str, int] = defaultdict(int)
    for one in found:
        counts[one.reason] += one.count
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    lines = [f"{count} node{'s' if count > 1 else ''}: {reason}" for reason, count in ranked[:limit]]
    rest = sum(count for _, count in ranked[limit:])
    return (*lines, f"{rest} more for other reasons") if rest else tuple(lines)
