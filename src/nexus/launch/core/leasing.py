"""From a place to a lease; and what makes two runs alike for the queue."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from nexus.kernel.ids import new_id
from nexus.launch.core.exits import Place
from nexus.launch.core.placement.rooms import Need, need_key
from nexus.launch.core.policy import Policy
from nexus.launch.model import TASK_LIFE, Assignment, Node, Run, Task


def batches(run: Run, needed: Sequence[Place], tasks: Sequence[Task]) -> list[list[Place]]:
    """What is placed at once: a gang together, others one by one; so is a gang's member that is started again."""
    gang_roles = {role.name for role in run.plan.roles if role.gang}
    gang = [place for place in needed if place[0] in gang_roles]
    rest = [[place] for place in needed if place[0] not in gang_roles]
    started = any(
        task.role in gang_roles and task.run_attempt == run.attempt and not TASK_LIFE.is_final(task.state)
        for task in tasks
    )
    if started:
        return [[place] for place in gang] + rest
    return ([gang] if gang else []) + rest


def lease(run: Run, one: Assignment, attempt: int, node: Node, now: float, policy: Policy) -> Task:
    """The task that a place becomes. Its epoch is given when it is written."""
    role = run.plan.role(one.role)
    return Task(
        id=task_id(run.id, one.role, one.index, attempt),
        project=run.project,
        created=now,
        run=run.id,
        role=one.role,
        index=one.index,
        attempt=attempt,
        run_attempt=run.attempt,
        node=node.id,
        epoch=0,
        go=not role.gang,
        gpus=one.gpus,
        cpu=role.needs.cpu.least,
        memory_b=int(role.needs.memory_b.least),
        address=node.address,
        lease_until=now + policy.lease_s,
        price=one.price,
    )


def task_id(run: str, role: str, index: int, attempt: int) -> str:
    """The id follows from what the task is, so that nobody can store two tasks for one try of one place."""
    return new_id("task", hashlib.sha256(f"{run}/{role}/{index}/{attempt}".encode()).digest())


def shape_of(run: Run, needed: Sequence[Place], tasks: Sequence[Task]) -> tuple[str, tuple[Need, ...]]:
    """What puts runs into one line: that a place for the one is a place for the other. And the classes they need."""
    plan = run.plan
    names = dict.fromkeys(name for name, _ in needed)
    needs = tuple(need_key(plan.role(name), run.project) for name in names)
    if any(not TASK_LIFE.is_final(task.state) for task in tasks):
        return run.id, needs  # what it has already says what it can still have
    counts = tuple((name, sum(role == name for role, _ in needed), plan.role(name).gang) for name in names)
    return repr((counts, needs, plan.network, plan.max_price, plan.timeout_s, plan.preemptible)), needs
