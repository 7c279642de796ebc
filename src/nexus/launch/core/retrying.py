"""When a failed attempt is tried again, and after how long a pause."""

from __future__ import annotations

from collections.abc import Sequence

from nexus.launch.core.policy import Policy
from nexus.launch.model import Cause, Retry, Task

_FOREVER_S = 86400.0


def may_retry(retry: Retry, attempt: int, cause: Cause | None, exit_code: int | None) -> bool:
    """Whether attempt number `attempt` (from 0) may be followed by another, given why it failed."""
    if cause is None or attempt >= retry.max:
        return False
    return str(cause) in retry.on or f"{cause}:{exit_code}" in retry.on


def backoff_s(retry: Retry, attempt: int) -> float:
    """The pause after attempt number `attempt`: doubles from the lower bound to the upper one."""
    return min(retry.backoff_s.least * 2.0 ** min(attempt, 60), longest_backoff_s(retry))


def longest_backoff_s(retry: Retry) -> float:
    """No pause between attempts is longer."""
    return retry.backoff_s.high if retry.backoff_s.high is not None else _FOREVER_S


def restart_pause_s(history: Sequence[Task], policy: Policy) -> float:
    """The pause before a task of a restarted role is started again, given its earlier tries, oldest first.

    Tries that settled, that were asked to stop, or that lost their node cost nothing; short ones double the pause.
    """
    short = 0
    for task in reversed(history):
        if task.wanted == "stop" or task.cause in {Cause.NODE_LOST, Cause.SPOT}:
            break
        if (task.ended or 0.0) - (task.started or task.created) >= policy.settled_s:
            break
        short += 1
    return min(policy.restart_s * 2.0 ** min(short - 1, 60), policy.restart_max_s) if short else 0.0
