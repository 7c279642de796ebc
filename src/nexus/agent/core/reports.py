"""What the agent tells the server of its tasks."""

from __future__ import annotations

from nexus.agent.model import LocalTask
from nexus.launch.protocol import TaskReport


def task_report(task: LocalTask, log_end: int) -> TaskReport:
    """One task, as the protocol says it."""
    return TaskReport(
        task=task.order.task,
        epoch=task.order.epoch,
        state=task.state,
        detail=task.detail,
        cause=task.cause,
        exit_code=task.exit_code,
        signal=task.signal,
        ports=task.ports,
        healthy=task.healthy,
        idle=task.idle and not task.ended,
        log_end=task.log_end if task.ended else log_end,
    )
