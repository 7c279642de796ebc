"""How one run goes on, given where its tasks stand: a pure step towards what is wanted.

Taking the step twice is taking it once: it depends on records and the time only, and a run that needs nothing is
returned as it came.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nexus.kernel.records import altered
from nexus.kernel.units import format_seconds
from nexus.launch.core.exits import Place, Verdict, judge
from nexus.launch.core.policy import Policy
from nexus.launch.core.retrying import backoff_s, longest_backoff_s, may_retry, restart_pause_s
from nexus.launch.model import RUN_LIFE, TASK_LIFE, Cause, OnExit, RolePlan, Run, RunState, Task, TaskState

_STARTED = frozenset({TaskState.RUNNING, TaskState.STOPPING})
_GATHERED = frozenset({TaskState.READY, *_STARTED})


@dataclass(frozen=True, slots=True)
class Progress:
    """A run's next step: itself, its changed tasks, and the places that want a node now."""

    run: Run
    tasks: tuple[Task, ...] = ()
    needed: tuple[Place, ...] = ()
    due: float | None = None  # when to look again if nothing changes before


def advance(run: Run, tasks: Sequence[Task], now: float, policy: Policy) -> Progress:
    """The next step of `run`, whose tasks of the present attempt, and all live ones, are `tasks`."""
    live = [task for task in tasks if not TASK_LIFE.is_final(task.state)]
    if RUN_LIFE.is_final(run.state):
        return Progress(run, _stop(live))
    if run.wanted == "stop":
        return _wind_down(altered(run, cause=Cause.STOPPED, reason="stopped on request"), live, now)
    places = tries(run, tasks)
    run = _begun(run, places)
    verdict = judge(run, places, now)
    if run.state is RunState.STOPPING:
        done = run.cause is Cause.PREEMPTED and verdict is not None and verdict.cause is Cause.DONE
        return _wind_down(_judged(run, verdict) if done and verdict is not None else run, live, now)
    if verdict is not None:
        return _wind_down(_judged(run, verdict), live, now)
    return _go_on(run, places, live, now, policy)


def preempt(run: Run, tasks: Sequence[Task], reason: str, now: float) -> Progress:
    """Stop the run's tasks, with their grace; once they are over it is queued again."""
    live = [task for task in tasks if not TASK_LIFE.is_final(task.state)]
    return _wind_down(altered(run, cause=Cause.PREEMPTED, reason=reason), live, now)


def tries(run: Run, tasks: Sequence[Task]) -> dict[Place, list[Task]]:
    """The tasks of the run's present attempt by place, oldest first."""
    places: defaultdict[Place, list[Task]] = defaultdict(list)
    for task in sorted(tasks, key=lambda task: task.attempt):
        if task.run_attempt == run.attempt:
            places[task.role, task.index].append(task)
    return dict(places)


def held_cost(task: Task, now: float) -> float:
    """What a task has cost until its end, or until now: its price for the time it held its part of the node."""
    until = task.ended if task.ended is not None else now
    return task.price * max(0.0, until - task.created) / 3600.0


def ended_cost(tasks: Sequence[Task]) -> float:
    """What the ended ones of `tasks` have cost."""
    return sum(held_cost(task, 0.0) for task in tasks if task.ended is not None)


def _begun(run: Run, places: Mapping[Place, Sequence[Task]]) -> Run:
    """With the time at which its first task ran."""
    starts = [task.started for attempts in places.values() for task in attempts if task.started is not None]
    return altered(run, started=min(starts)) if run.started is None and starts else run


def _judged(run: Run, verdict: Verdict) -> Run:
    return altered(run, cause=verdict.cause, reason=verdict.reason, exit_code=verdict.exit_code)


def _stop(live: Sequence[Task]) -> tuple[Task, ...]:
    return tuple(altered(task, wanted="stop") for task in live if task.wanted != "stop")


def _wind_down(run: Run, live: Sequence[Task], now: float) -> Progress:
    """Stop what still lives; when nothing does, conclude as `run.cause` says."""
    if live:
        return Progress(altered(run, state=RUN_LIFE.move(run.state, RunState.STOPPING), rejections=()), _stop(live))
    if run.wanted != "stop" and run.cause is Cause.PREEMPTED:
        return Progress(_requeued(run))
    if run.wanted != "stop" and may_retry(run.plan.retry, run.attempt - run.preempted, run.cause, run.exit_code):
        return Progress(_again(run, now))
    if run.wanted == "stop" or run.cause is Cause.IDLE:
        state = RunState.STOPPED
    else:
        state = RunState.SUCCEEDED if run.cause is Cause.DONE else RunState.FAILED
    return Progress(altered(run, state=RUN_LIFE.move(run.state, state), ended=now, rejections=()))


def _again(run: Run, now: float) -> Run:
    failed = run.attempt - run.preempted
    pause = backoff_s(run.plan.retry, failed)
    said = f"attempt {failed + 1} of {run.plan.retry.max + 1}: {run.reason}; tries again in {format_seconds(pause)}"
    return _next_attempt(altered(run, not_before=now + pause, reason=said))


def _requeued(run: Run) -> Run:
    """Its attempt counts for nothing, and it keeps its place in the queue."""
    return _next_attempt(altered(run, preempted=run.preempted + 1, not_before=0.0))


def _next_attempt(run: Run) -> Run:
    state = RUN_LIFE.move(run.state, RunState.QUEUED)
    return altered(run, state=state, attempt=run.attempt + 1, cause=None, exit_code=None, until=None)


def _go_on(
    run: Run, places: Mapping[Place, Sequence[Task]], live: Sequence[Task], now: float, policy: Policy
) -> Progress:
    needed, later = _needed(run, places, now, policy)
    surplus = [task for task in live if task.index >= run.count(run.plan.role(task.role))]
    changed = {task.id: task for task in _stop(surplus)}
    changed |= {task.id: altered(changed.get(task.id, task), go=True) for task in _gathered(run, places)}
    state = _state(run, live)
    rejections = run.rejections if needed else ()
    run = altered(run, state=state, reason=_waiting(run, state, needed, later, now), rejections=rejections)
    return Progress(run, tuple(changed.values()), needed, _due_again(run, places, later))


def _due_again(run: Run, places: Mapping[Place, Sequence[Task]], later: float | None) -> float | None:
    """When time alone changes something: a pause ends, the timeout is reached, or kept room is needed."""
    moments = [] if later is None else [later]
    starts = [at for attempts in places.values() if (at := attempts[-1].started) is not None]
    if run.plan.timeout_s is not None and starts:
        moments.append(min(starts) + run.plan.timeout_s)
    if run.until is not None:
        moments.append(run.until - run.plan.grace_s)
    return min(moments, default=None)


def _needed(
    run: Run, places: Mapping[Place, Sequence[Task]], now: float, policy: Policy
) -> tuple[tuple[Place, ...], float | None]:
    """Places that want a node now, and the time at which the next one will."""
    needed: list[Place] = []
    later: list[float] = []
    longest = max(longest_backoff_s(run.plan.retry), policy.restart_max_s)
    for role in run.plan.roles:
        for index in range(run.count(role)):
            at = _due(run, role, places.get((role.name, index), ()), policy)
            if at is None:
                continue
            if at <= now or at > now + longest:  # no pause is that long: the clock was set back
                needed.append((role.name, index))
            else:
                later.append(at)
    return tuple(needed), min(later, default=None)


def _due(run: Run, role: RolePlan, attempts: Sequence[Task], policy: Policy) -> float | None:
    """When this place wants a new task; None when it has one, or needs no more."""
    if not attempts:
        return run.not_before
    last = attempts[-1]
    if not TASK_LIFE.is_final(last.state):
        return None
    if role.on_exit is OnExit.RESTART:
        return (last.ended or 0.0) + restart_pause_s(attempts, policy)
    scaled_back = last.wanted == "stop" and last.state is not TaskState.SUCCEEDED
    return run.not_before if scaled_back else None


def _gathered(run: Run, places: Mapping[Place, Sequence[Task]]) -> list[Task]:
    """A gang's waiting tasks, once every one that is not over is READY and none is missing."""
    wanted = [(role.name, index) for role in run.plan.roles if role.gang for index in range(run.count(role))]
    last = [places[place][-1] for place in wanted if place in places]
    alive = [task for task in last if not TASK_LIFE.is_final(task.state)]
    if len(last) < len(wanted) or any(task.state not in _GATHERED for task in alive):
        return []
    return [task for task in alive if not task.go]


def _state(run: Run, live: Sequence[Task]) -> RunState:
    """RUNNING once everything that was started runs, and from then on while anything does."""
    if not live:
        return RUN_LIFE.move(run.state, RunState.QUEUED)
    runs = any(task.state in _STARTED for task in live)
    if runs and (run.state is RunState.RUNNING or all(task.state in _STARTED for task in live)):
        if run.state is RunState.QUEUED:
            return RunState.STARTING  # the table knows no way past it; the next step goes on
        return RUN_LIFE.move(run.state, RunState.RUNNING)
    return RUN_LIFE.move(run.state, RunState.STARTING)


def _waiting(run: Run, state: RunState, needed: Sequence[Place], later: float | None, now: float) -> str:
    """Why it waits. A reason why no node fits is the placement's to say, so it stays until that changes it."""
    if needed:
        return run.reason
    if later is not None and later > now:
        return run.reason if run.attempt and state is RunState.QUEUED else "a task that ended is started again soon"
    return "" if state is not RunState.QUEUED else "scaled to zero: no task is wanted"
