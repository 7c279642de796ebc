"""From what is remembered and observed to what the rollout, the gateway and people look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from nexus.deploy.core.engines import speaks_openai
from nexus.deploy.core.rollout import ReplicaSeen, RunSeen
from nexus.deploy.model import PORT, Endpoint, EndpointState, EndpointView, Replica, ReplicaView, Revision, Route
from nexus.launch.model import RUN_LIFE, TASK_LIFE, Cause, Run, Task, TaskState

Outstanding = Callable[[str], int]
_OWN_ENDS = {TaskState.FAILED, TaskState.SUCCEEDED}
_OTHERS_FAULT = {Cause.STOPPED, Cause.NODE_LOST, Cause.SPOT, Cause.PEER}


def is_ready(task: Task) -> bool:
    """Whether a task may take requests."""
    return task.state is TaskState.RUNNING and task.healthy and task.wanted == "run" and PORT in task.ports


def alive(tasks: Sequence[Task]) -> list[Task]:
    """The live task of each index, by index: the newest attempt where two overlap."""
    newest: dict[int, Task] = {}
    for task in tasks:
        if not TASK_LIFE.is_final(task.state):
            old = newest.get(task.index)
            if old is None or (task.attempt, task.created) > (old.attempt, old.created):
                newest[task.index] = task
    return [newest[index] for index in sorted(newest)]


def seen(run: Run, tasks: Sequence[Task], outstanding: Outstanding) -> RunSeen:
    """What the rollout needs to know of a run."""
    replicas = tuple(ReplicaSeen(t.index, is_ready(t), outstanding(t.id)) for t in alive(tasks))
    ends = [t for t in tasks if t.state in _OWN_ENDS and t.cause not in _OTHERS_FAULT]
    last = max(ends, key=lambda task: task.ended or 0.0, default=None)
    reason = (last.detail if last is not None else "") or run.reason or "; ".join(run.rejections[:3])
    return RunSeen(replicas, len(ends), RUN_LIFE.is_final(run.state), reason)


def route(endpoint: Endpoint, tasks: Mapping[int, Sequence[Task]]) -> Route | None:
    """Where requests for an endpoint go now; None for one that is going away."""
    if endpoint.state is EndpointState.DELETING:
        return None
    target = endpoint.revision(endpoint.target)
    replicas = tuple(
        Replica(task.id, task.address or "127.0.0.1", task.ports[PORT], revision.number)
        for revision in endpoint.revisions
        for task in alive(tasks.get(revision.number, ()))
        if is_ready(task) and task.index < revision.open
    )
    return Route(
        project=endpoint.project,
        endpoint=endpoint.name,
        replicas=replicas,
        openai=speaks_openai(target.engine),
        pure=target.pure,
        limits=target.limits,
        created=endpoint.created,
    )


def view(
    endpoint: Endpoint,
    tasks: Mapping[int, Sequence[Task]],
    gateway: str,
    counted: tuple[int, int],
    outstanding: Outstanding,
) -> EndpointView:
    """An endpoint as people see it."""
    target = endpoint.revision(endpoint.target)
    running = tuple(
        _replica(revision, task, outstanding)
        for revision in endpoint.revisions
        for task in alive(tasks.get(revision.number, ()))
    )
    return EndpointView(
        name=endpoint.name,
        project=endpoint.project,
        user=endpoint.user,
        state=endpoint.state,
        reason=endpoint.reason,
        fault=endpoint.fault,
        url=f"{gateway}/e/{endpoint.name}",
        engine=target.engine,
        model=target.model,
        replicas=endpoint.replicas,
        ready=sum(replica.ready for replica in running),
        revision=target.number,
        created=endpoint.created,
        updated=endpoint.updated,
        openai=speaks_openai(target.engine),
        running=running,
        revisions=endpoint.revisions,
        requests=counted[0],
        errors=counted[1],
        example=target.example,
    )


def _replica(revision: Revision, task: Task, outstanding: Outstanding) -> ReplicaView:
    port = task.ports.get(PORT)
    return ReplicaView(
        task=task.id,
        node=task.node,
        index=task.index,
        revision=revision.number,
        state="draining" if task.index >= revision.open else str(task.state),
        ready=is_ready(task) and task.index < revision.open,
        detail=task.detail,
        address=f"{task.address or '127.0.0.1'}:{port}" if port else "",
        inflight=outstanding(task.id),
    )
