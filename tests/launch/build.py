"""Short words for plans, nodes and tasks in tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nexus.kernel.units import Range
from nexus.launch.model import Capacity, Gpu, GpuNeed, Needs, Node, RolePlan, Run, RunPlan, Task, TaskState
from nexus.launch.protocol import NodeInfo, TaskReport

GB = 10**9


def needs(cpu: float = 0, memory_b: int = 0, gpu: int = 0, gpu_names: tuple[str, ...] = (), **more: Any) -> Needs:
    return Needs(cpu=Range(cpu or None), memory_b=Range(memory_b or None), gpu=GpuNeed(gpu, gpu_names), **more)


def role(name: str = "main", count: int = 1, **more: Any) -> RolePlan:
    return RolePlan(name=name, count=count, argv=("true",), **more)


def plan(*roles: RolePlan, **more: Any) -> RunPlan:
    return RunPlan(kind="command", roles=roles or (role(),), **more)


def node(name: str, *, cpu: float = 4, memory_b: int = 8 * GB, gpus: tuple[Gpu, ...] = (), **more: Any) -> Node:
    capacity = Capacity(cpu, memory_b, 100 * GB, gpus)
    return Node(id=f"node_{name}", project="p", created=0.0, name=name, capacity=capacity, version=1, **more)


def info(name: str, *, cpu: float = 4, boot: str = "boot1", **more: Any) -> NodeInfo:
    return NodeInfo(name=name, boot=boot, capacity=Capacity(cpu, 8 * GB, 100 * GB), **more)


def run(*roles: RolePlan, **more: Any) -> Run:
    of_plan = {key: more.pop(key) for key in ("retry", "timeout_s", "after") if key in more}
    fields: dict[str, Any] = {
        "id": "run_x",
        "project": "p",
        "created": 0.0,
        "name": "x",
        "kind": "command",
        "version": 1,
    } | more
    return Run(plan=plan(*roles, **of_plan), **fields)


def task(role_name: str = "main", index: int = 0, state: TaskState = TaskState.RUNNING, **more: Any) -> Task:
    fields: dict[str, Any] = {
        "id": f"task_{role_name}_{index}_{more.get('attempt', 0)}",
        "project": "p",
        "created": 0.0,
        "run": "run_x",
        "node": "node_a",
        "epoch": 1,
        "version": 1,
        "attempt": 0,
    }
    return Task(role=role_name, index=index, state=state, **(fields | more))


def said(order_task: Any, state: TaskState, **more: Any) -> TaskReport:
    """What an agent reports of an order or a task."""
    task_id = getattr(order_task, "task", None) or order_task.id
    return TaskReport(task=task_id, epoch=order_task.epoch, state=state, **more)


__all__ = ["GB", "info", "needs", "node", "plan", "replace", "role", "run", "said", "task"]
