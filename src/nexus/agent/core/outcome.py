"""The end of a process, in the words of `launch.model`."""

from __future__ import annotations

import signal
from dataclasses import replace

from nexus.agent.model import Exit, LocalTask
from nexus.kernel.units import format_bytes, format_seconds
from nexus.launch.model import Cause, TaskState


def ended(task: LocalTask, end: Exit) -> LocalTask:
    """The task after its process ended. A signal is told as a negative exit code, as Python does."""
    state, cause, detail = _verdict(task, end)
    code = -end.signal if end.signal else end.exit_code
    return replace(task, state=state, cause=cause, detail=detail, exit_code=code, signal=end.signal, healthy=False)


def _verdict(task: LocalTask, end: Exit) -> tuple[TaskState, Cause, str]:
    if end.killed_for == "timeout":
        limit = format_seconds(task.order.timeout_s or 0.0)
        return TaskState.FAILED, Cause.TIMEOUT, f"ran longer than its limit of {limit}"
    if end.killed_for == "reboot":
        return TaskState.FAILED, Cause.NODE_LOST, "the machine was restarted"
    if end.killed_for == "memory" and task.stop is None:
        words = f"used more than its {format_bytes(task.order.memory_b)} of memory"
        return TaskState.FAILED, Cause.MEMORY, in_words(end) if end.detail else words
    if end.killed_for == "lease" or task.stop is Cause.NODE_LOST:
        return TaskState.FAILED, Cause.NODE_LOST, "its lease ran out: no word from the server in time"
    if task.stop is Cause.STOPPED:
        return TaskState.STOPPED, Cause.STOPPED, in_words(end)
    if task.stop is not None:
        return TaskState.FAILED, task.stop, task.detail or in_words(end)
    if end.signal:
        return TaskState.FAILED, Cause.SIGNAL, in_words(end)
    if end.exit_code is None:
        return TaskState.FAILED, Cause.INTERNAL, in_words(end)
    if end.exit_code:
        return TaskState.FAILED, Cause.EXIT, in_words(end)
    return TaskState.SUCCEEDED, Cause.DONE, ""


def in_words(end: Exit) -> str:
    """`killed by signal 9 (SIGKILL)`, `exited with code 3`."""
    if end.signal:
        try:
            name = f" ({signal.Signals(end.signal).name})"
        except ValueError:
            name = ""
        words = f"killed by signal {end.signal}{name}"
    elif end.exit_code is not None:
        words = f"exited with code {end.exit_code}"
    else:
        return end.detail
    return f"{words}: {end.detail}" if end.detail else words
