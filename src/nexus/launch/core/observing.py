"""What an agent's observation does to a task's record."""

from __future__ import annotations

from nexus.kernel.records import altered
from nexus.launch.model import TASK_LIFE, Cause, Task, TaskState
from nexus.launch.protocol import TaskReport


def observe(task: Task, report: TaskReport, now: float) -> Task | None:
    """The task as observed; None when the report changes nothing, came too late, or is of a lease that is over.

    The epoch fences: what the holder of another lease saw is not about this task. Moves that the life cycle does not
    know (a late message) are dropped, because the agent repeats its whole picture anyway.
    """
    if report.task != task.id or report.epoch != task.epoch or TASK_LIFE.is_final(task.state):
        return None
    if not TASK_LIFE.may(task.state, report.state):
        return None
    ends = TASK_LIFE.is_final(report.state)
    seen = altered(
        task,
        state=report.state,
        detail=report.detail,
        cause=(report.cause or _default_cause(report.state)) if ends else task.cause,
        exit_code=report.exit_code if ends else None,
        signal=report.signal if ends else None,
        ports=dict(report.ports) or task.ports,
        healthy=report.healthy and not ends,
        idle=report.idle and not ends,
        started=now if task.started is None and _has_run(report) else task.started,
        ended=now if ends else None,
    )
    return None if seen is task else seen


def _has_run(report: TaskReport) -> bool:
    """A quick task may have ended before anybody heard that it ran."""
    return report.state is TaskState.RUNNING or report.exit_code is not None or report.signal is not None


def _default_cause(state: TaskState) -> Cause:
    causes = {TaskState.SUCCEEDED: Cause.DONE, TaskState.STOPPED: Cause.STOPPED, TaskState.LOST: Cause.NODE_LOST}
    return causes.get(state, Cause.INTERNAL)
