"""Which task a caller means, and which of its ports: pure, with words for everybody who may not get through."""

from __future__ import annotations

from collections.abc import Sequence

from nexus.kernel.errors import ConflictError, NotFoundError, UsageError
from nexus.launch.calls import CallKind, CallRequest
from nexus.launch.model import RUN_LIFE, TASK_LIFE, Run, Task, TaskState

_MOST_ARGUMENTS_B = 128 * 1024


def check_request(request: CallRequest) -> None:
    """Refuse what no agent could serve. Raises UsageError."""
    if request.kind is CallKind.PORT:
        if not request.port:
            raise UsageError("no port was named", hint="Name one of the job's ports, or give a number.")
        return
    if not request.argv or not request.argv[0]:
        raise UsageError("there is no command to run", hint="Write it behind the run: nexus exec RUN -- COMMAND")
    if any("\0" in word for word in (*request.argv, request.term)):
        raise UsageError("a command cannot hold a NUL character")
    if sum(len(word.encode("utf-8", "surrogatepass")) for word in request.argv) > _MOST_ARGUMENTS_B:
        raise UsageError("the command is too long", hint="Send it on standard input: nexus exec -i RUN -- sh")


def reached(run: Run, tasks: Sequence[Task], request: CallRequest) -> Task:
    """The running task that a call goes to: the one named, else the first of the run's that runs.

    Raises NotFoundError for a role or index that the run has not, ConflictError when nothing runs there.
    """
    if request.role and all(role.name != request.role for role in run.plan.roles):
        names = ", ".join(role.name for role in run.plan.roles)
        raise NotFoundError(f"the run {run.name} has no role {request.role}", hint=f"It has: {names}.")
    ranks = {role.name: rank for rank, role in enumerate(run.plan.roles)}
    named = [
        task
        for task in sorted(tasks, key=lambda task: (ranks.get(task.role, 0), task.index, -task.attempt))
        if request.role in {"", task.role} and request.index in {None, task.index}
    ]
    if not named and request.index is not None and (tasks or RUN_LIFE.is_final(run.state)):
        place = f"{request.role or '*'}.{request.index}"
        raise NotFoundError(f"the run {run.name} has no task {place}", hint=f"nexus show {run.id} lists them.")
    for task in named:
        if task.state is TaskState.RUNNING:
            return task
    raise _nothing_runs(run, named)


def port_of(run: Run, task: Task, wanted: str) -> int:
    """The number of a port, by the name that the job gives it, or as a number.

    Raises NotFoundError for a name that the job has not, UsageError for what is no port.
    """
    if wanted in task.ports:
        return task.ports[wanted]
    if not wanted.isdigit():
        known = ", ".join(f"{name} ({number})" for name, number in task.ports.items())
        hint = f"It has: {known}; any other port is named by its number." if known else "Name a port by its number."
        raise NotFoundError(f"the run {run.name} has no port {wanted!r}", hint=hint)
    number = int(wanted)
    if not 1 <= number <= 65535:
        raise UsageError(f"{wanted} is no port", hint="Ports go from 1 to 65535.")
    return number


def _nothing_runs(run: Run, named: Sequence[Task]) -> ConflictError:
    if RUN_LIFE.is_final(run.state):
        return ConflictError(
            f"the run {run.name} is over: {run.state}",
            hint=f"Its log: nexus logs {run.id}. Run it again: nexus restart {run.id}",
            final=True,
        )
    last = max(named, key=lambda task: (task.run_attempt, task.attempt), default=None)
    if last is None:
        return ConflictError(
            f"the run {run.name} is {run.state}: no task of it runs yet",
            hint=f"nexus why {run.id} says what it waits for.",
        )
    state = "has ended" if TASK_LIFE.is_final(last.state) else f"is {last.state}"
    detail = f" ({last.detail})" if last.detail else ""
    return ConflictError(
        f"the task {last.role}.{last.index} of {run.name} {state}{detail}: only a running task can be reached",
        hint=f"nexus show {run.id} shows where its tasks stand.",
    )
