"""What an agent is told of a task: the order, made from the run's plan and where its other tasks are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nexus.launch.core.lifecycle import tries
from nexus.launch.core.policy import Policy
from nexus.launch.model import Run, Task, TaskState
from nexus.launch.protocol import Peer, TaskOrder

_LISTENING = frozenset({TaskState.READY, TaskState.RUNNING})


def order_of(
    run: Run,
    task: Task,
    tasks: Sequence[Task],
    policy: Policy,
    *,
    token: str,
    inputs: Mapping[str, str],
    secrets: Mapping[str, str],
) -> TaskOrder:
    """The order for `task`, one of `run`'s present `tasks`; `inputs` are digests by name."""
    plan, role = run.plan, run.plan.role(task.role)
    return TaskOrder(
        task=task.id,
        run=run.id,
        run_name=run.name,
        project=run.project,
        role=task.role,
        index=task.index,
        count=run.count(role),
        attempt=task.attempt,
        epoch=task.epoch,
        lease_s=policy.lease_s,
        wanted=task.wanted,
        go=task.go,
        peers=peers_of(run, tasks),
        gpus=task.gpus,
        cpu=task.cpu,
        memory_b=task.memory_b,
        argv=role.argv,
        script=role.script,
        setup=role.setup,
        setup_files=role.setup_files,
        image=role.image,
        isolation=role.isolation,
        env=role.env,
        secrets=dict(secrets),
        ports=role.ports,
        health=role.health,
        workspace=plan.workspace,
        workspace_b=plan.workspace_b,
        inputs=dict(inputs),
        outputs=plan.outputs,
        timeout_s=plan.timeout_s,
        idle_stop_s=plan.idle_stop_s,
        grace_s=plan.grace_s,
        token=token,
    )


def peers_of(run: Run, tasks: Sequence[Task]) -> tuple[Peer, ...]:
    """Where the run's present tasks listen: gangs' members and all that have ports, in the plan's and rank order."""
    last = {place: attempts[-1] for place, attempts in tries(run, tasks).items()}
    peers: list[Peer] = []
    for role in run.plan.roles:
        if not (role.gang or role.ports):
            continue
        for index in range(run.count(role)):
            task = last.get((role.name, index))
            if task is not None and task.state in _LISTENING:
                peers.append(Peer(role.name, index, task.address, task.ports))
    return tuple(peers)


def without_secrets(order: TaskOrder) -> TaskOrder:
    """The part of an order by whose change an agent is woken; tokens are minted anew by a restarted server."""
    return replace(order, token="", secrets={})
