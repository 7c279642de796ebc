"""What of a task must be on disk before anything else is done, so that a restarted agent goes on rightly."""

from __future__ import annotations

from dataclasses import replace

from nexus.agent.model import LocalTask
from nexus.launch.model import TaskState

_BEFORE_START = frozenset({TaskState.PREPARING, TaskState.READY})


def matters(before: LocalTask, after: LocalTask) -> bool:
    """Whether a restarted agent would act otherwise; words for people, health and progress it finds out anew."""
    return _core(before) != _core(after)


def _core(task: LocalTask) -> LocalTask:
    state = TaskState.PREPARING if task.state in _BEFORE_START else task.state
    return replace(task, state=state, detail="", healthy=False)
