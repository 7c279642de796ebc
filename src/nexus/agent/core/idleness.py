"""Since when a task does nothing: a pure step from one look to the next."""

from __future__ import annotations

from dataclasses import dataclass

BUSY = 0.05  # of one core, on average between two looks: a notebook that waits for its reader uses less


@dataclass(frozen=True, slots=True)
class Idleness:
    """What the last look found, in seconds of the agent's clock."""

    since: float
    at: float
    cpu_s: float


def looked(before: Idleness | None, cpu_s: float | None, used: float | None, now: float) -> Idleness:
    """The next look, at `cpu_s` that the task has used so far and the time when somebody `used` it last.

    A machine that does not tell what a task uses has no idle tasks.
    """
    if before is None or cpu_s is None:
        return Idleness(now, now, cpu_s or 0.0)
    is_busy = cpu_s - before.cpu_s > BUSY * (now - before.at)
    since = now if is_busy else before.since
    return Idleness(max(since, used or since), now, cpu_s)
