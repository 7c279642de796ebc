"""The events of Launch: about a run (its tasks too, so that one subject tells its whole story) or about a node."""

from __future__ import annotations

from typing import Any

from nexus.kernel.events import Event
from nexus.launch.calls import Call, CallRequest
from nexus.launch.model import Fleet, Machine, Node, Run, Task


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


def run_called(run: Run, call: Call, request: CallRequest, at: float, actor: str) -> Event:
    """`run.exec`, `run.port`: somebody reached into a task. Of a command only its first word: more may be secret."""
    what: dict[str, Any] = {"program": request.argv[0]} if request.argv else {"port": call.port}
    data = {"name": run.name, "task": call.task, "role": call.role, "index": call.index, **what}
    return Event(f"run.{request.kind}", run.id, run.project, at, actor, data)


def node_called(node: Node, request: CallRequest, at: float, actor: str) -> Event:
    """`node.exec`: somebody opened a shell on the machine itself."""
    data = {"name": node.name, "program": request.argv[0]}
    return Event(f"node.{request.kind}", node.id, node.project, at, actor, data)


def machine_moved(machine: Machine, at: float, actor: str = "nexus") -> Event:
    """`machine.wanted`, `machine.up`, ...: a machine that a provider starts for us came into a state."""
    data = {"name": machine.offer.machine, "fleet": machine.fleet, "run": machine.run, "node": machine.node}
    return Event(f"machine.{machine.state}", machine.id, machine.project, at, actor, {**data, "reason": machine.reason})


def fleet_event(fleet: Fleet, what: str, at: float, actor: str) -> Event:
    """`fleet.added`, `fleet.paused`, ...."""
    return Event(f"fleet.{what}", fleet.id, fleet.project, at, actor, {"name": fleet.name, "provider": fleet.provider})
