"""Why a run waits: its place in the queue, and the room that is kept for it or for others."""

from __future__ import annotations

from nexus.kernel.units import format_seconds
from nexus.launch.core.filling import justice_of
from nexus.launch.core.policy import Policy
from nexus.launch.core.queue.reservations import Reservation
from nexus.launch.core.queue.views import Waiting
from nexus.launch.core.queue.walk import ahead
from nexus.launch.core.standing import Standing
from nexus.launch.model import Run

_NAMED = 3  # of several runs or nodes, so many are named


def waiting(standing: Standing, run: Run, now: float, policy: Policy) -> Waiting:
    """In words, the most important first."""
    past = (f"it has made room for others {_times(run.preempted)}",) if run.preempted else ()
    line = standing.queue.line_of(run.id)
    if line is None:
        return Waiting(lines=past)
    position = 1 + ahead(standing.queue.lines.values(), justice_of(standing, now, policy), run.id, line)
    kept = standing.reservations.get(run.id)
    lines = (_stands(standing, run, position), *(_kept(standing, kept, now) if kept is not None else ()))
    others = [one for one in standing.reservations.values() if one.run != run.id and kept is None]
    return Waiting(
        position=position,
        of=len(standing.queue),
        lines=(*lines, *(_kept_for(standing, one, now) for one in others[:_NAMED]), *past),
    )


def _stands(standing: Standing, run: Run, position: int) -> str:
    where = f"it is number {position} of {len(standing.queue)} in the queue, with priority {run.plan.priority}"
    weight = {project: standing.weight(project) for project in standing.active_projects()}
    if len(weight) < 2:
        return where
    share = standing.held.share(run.project)
    fair = weight[run.project] / sum(weight.values())
    return f"{where}; its project holds {share:.0%} of everything, its fair share is {fair:.0%}"


def _kept(standing: Standing, kept: Reservation, now: float) -> tuple[str, ...]:
    others = _names([standing.runs[run].name for run in kept.waits_for if run in standing.runs])
    where = _names(sorted(standing.nodes[node].name for node in kept.nodes if node in standing.nodes))
    if kept.preempts:
        return (f"{others or 'a run that ends'} makes room for it on {where}",)
    if kept.at is None:
        return (f"room is kept for it on {where}; it waits for {others}, and nobody knows when that ends: no timeout",)
    after = f" when {others} ends" if others else ""
    return (
        f"room is kept for it on {where}: it starts{after}, in {format_seconds(max(0.0, kept.at - now))} at the latest",
    )


def _kept_for(standing: Standing, kept: Reservation, now: float) -> str:
    where = _names(sorted(standing.nodes[node].name for node in kept.nodes if node in standing.nodes))
    name = standing.runs[kept.run].name if kept.run in standing.runs else kept.run
    if kept.at is None or kept.at <= now:
        return f"room on {where} is kept for {name}, which comes first"
    left = format_seconds(kept.at - now)
    return f"room on {where} is kept for {name}; a run with a timeout below {left} may use it before"


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
