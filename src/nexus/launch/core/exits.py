"""What its tasks' ends mean for a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nexus.kernel.units import format_seconds
from nexus.launch.model import TASK_LIFE, Cause, OnExit, RolePlan, Run, Task, TaskState

Place = tuple[str, int]  # role, index


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an attempt of a run ends; DONE is success."""

    cause: Cause
    reason: str
    exit_code: int | None = None


def judge(run: Run, places: Mapping[Place, Sequence[Task]], now: float) -> Verdict | None:
    """The end of this attempt, if its tasks decide it.

    `places` holds the tries of each place in this attempt, oldest first.
    """
    last = {place: tries[-1] for place, tries in places.items() if place[1] < run.count(run.plan.role(place[0]))}
    ended = [task for task in last.values() if TASK_LIFE.is_final(task.state) and not _was_scaled_down(task)]
    by_exit: dict[OnExit, list[Task]] = {kind: [] for kind in OnExit}
    for task in ended:
        by_exit[run.plan.role(task.role).on_exit].append(task)
    if any(task.state is TaskState.SUCCEEDED for task in by_exit[OnExit.ANY]):
        return Verdict(Cause.DONE, "", 0)
    failures = [task for kind in (OnExit.ALL, OnExit.ANY) for task in by_exit[kind] if not _is_success(task)]
    if failures:
        return _failure(run, failures)
    late = _timeout(run, last.values(), now) or _idleness(run, last.values())
    return late or _completion(run, last, ended) or _overstays(run, last.values(), now)


def _timeout(run: Run, tasks: Iterable[Task], now: float) -> Verdict | None:
    starts = [task.started for task in tasks if task.started is not None]
    if run.plan.timeout_s is None or not starts or now < min(starts) + run.plan.timeout_s:
        return None
    return Verdict(Cause.TIMEOUT, f"ran longer than its timeout of {format_seconds(run.plan.timeout_s)}")


def _overstays(run: Run, tasks: Iterable[Task], now: float) -> Verdict | None:
    """It was let in because it would be over in time, and got going too late for that."""
    if run.until is None or now < run.until - run.plan.grace_s or all(TASK_LIFE.is_final(task.state) for task in tasks):
        return None
    return Verdict(Cause.PREEMPTED, "the room that it ran on was kept for another run, and is needed now")


def _idleness(run: Run, tasks: Iterable[Task]) -> Verdict | None:
    """All that live do nothing: one that is busy keeps the others, which may only wait for it."""
    live = [task for task in tasks if not TASK_LIFE.is_final(task.state)]
    if run.plan.idle_stop_s is None or not live or not all(task.idle for task in live):
        return None
    return Verdict(Cause.IDLE, f"idle for {format_seconds(run.plan.idle_stop_s)}")


def _completion(run: Run, last: Mapping[Place, Task], ended: Sequence[Task]) -> Verdict | None:
    """Success when nothing that matters is left to do."""
    kinds = {role.on_exit for role in run.plan.roles}
    if OnExit.ANY in kinds:
        return None
    deciding = OnExit.ALL if OnExit.ALL in kinds else OnExit.IGNORE if kinds == {OnExit.IGNORE} else None
    if deciding is None:
        return None
    done = {(task.role, task.index) for task in ended}
    if not all(place in done for role in run.plan.roles if role.on_exit is deciding for place in _places(run, role)):
        return None
    if deciding is OnExit.IGNORE and ended and not any(_is_success(task) for task in ended):
        return _failure(run, ended)
    return Verdict(Cause.DONE, "", 0) if last else None


def _places(run: Run, role: RolePlan) -> list[Place]:
    return [(role.name, index) for index in range(run.count(role))]


def _was_scaled_down(task: Task) -> bool:
    return task.wanted == "stop" and not _is_success(task)


def _is_success(task: Task) -> bool:
    return task.state is TaskState.SUCCEEDED


def _failure(run: Run, failures: Sequence[Task]) -> Verdict:
    """The first that failed by itself; a gang's others fall with it."""
    first = min(failures, key=lambda task: (task.cause is Cause.PEER, task.ended or 0.0, task.role, task.index))
    single = sum(run.count(role) for role in run.plan.roles) == 1
    words = why_it_ended(first)
    reason = words if single else f"{first.role}[{first.index}] {words}"
    return Verdict(first.cause or Cause.INTERNAL, reason, first.exit_code)


def why_it_ended(task: Task) -> str:
    """In words, to follow the task's name."""
    if task.cause is Cause.EXIT:  # the agent's own words, which name the number
        return task.detail or f"exited with code {task.exit_code}"
    if task.cause is Cause.SIGNAL:
        return task.detail or f"killed by signal {task.signal}"
    detail = f": {task.detail}" if task.detail else ""
    words = {
        Cause.SETUP: "could not be prepared",
        Cause.TIMEOUT: "ran longer than its timeout",
        Cause.STOPPED: "was stopped",
        Cause.NODE_LOST: "lost its node",
        Cause.SPOT: "lost its spot machine",
        Cause.HEALTH: "never became healthy",
        Cause.PEER: "ended because another task of its gang did",
        Cause.MEMORY: "was killed for using too much memory",
        Cause.IDLE: "did nothing for too long",
        Cause.PREEMPTED: "made room for a run of a higher priority",
        Cause.DONE: "succeeded",
    }
    return words.get(task.cause or Cause.INTERNAL, "failed inside Nexus") + detail
