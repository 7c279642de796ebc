"""The events of Launch: about a run (its tasks too, so that one subject tells its whole story) or about a node."""

from __future__ import annotations

from typing import Any

from nexus.kernel.events import Event
from nexus.launch.model import Node, Run, Task


def run_moved(run: Run, at: float, actor: str = "nexus") -> Event:
    """`run.queued`, `run.running`, ...: a run came into a state, or waits there for another reason."""
    data: dict[str, Any] = {"name": run.name, "reason": run.reason, "attempt": run.attempt}
    if run.cause is not None:
        data |= {"cause": str(run.cause), "exit_code": run.exit_code, "cost": run.cost}
    return Event(f"run.{run.state}", run.id, run.project, at, actor, data)


def run_asked(run: Run, what: str, at: float, actor: str, **data: Any) -> Event:
    """`run.stop_asked` and the like: somebody wants something of a run."""
    return Event(f"run.{what}", run.id, run.project, at, actor, {"name": run.name, **data})


def task_moved(task: Task, at: float) -> Event:
    """`task.leased`, `task.running`, ...; its subject is the run."""
    data: dict[str, Any] = {"task": task.id, "role": task.role, "index": task.index, "attempt": task.attempt}
    data |= {"node": task.node, "detail": task.detail}
    if task.cause is not None:
        data |= {"cause": str(task.cause), "exit_code": task.exit_code, "signal": task.signal}
    return Event(f"task.{task.state}", task.run, task.project, at, "nexus", data)


def node_moved(node: Node, at: float, actor: str = "nexus", **data: Any) -> Event:
    """`node.online`, `node.unreachable`, ...."""
    return Event(f"node.{node.state}", node.id, node.project, at, actor, {"name": node.name, **data})


def node_event(node: Node, what: str, at: float, actor: str) -> Event:
    """`node.joined`, `node.removed`."""
    return Event(f"node.{what}", node.id, node.project, at, actor, {"name": node.name})
