"""Deliberate bugs, each of which some seed must catch: the test of the simulation itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from nexus.launch.core.observing import observe
from nexus.launch.core.policy import Policy
from nexus.launch.core.scheduling import Agenda, Decision, Group, Seen, decide
from nexus.launch.core.standing import Standing
from nexus.launch.model import TASKS, Run, Task, Usage
from nexus.launch.protocol import TaskReport
from nexus.launch.service.context import Rules
from tests.simulation.scenario import play
from tests.simulation.world import POLICY, Laws

MOST_SEEDS = 250


def _rewrite(
    decision: Decision,
    task: Callable[[Task], Task] = lambda task: task,
    run: Callable[[Run], Run] = lambda run: run,
    usage: Callable[[Usage], Usage] = lambda usage: usage,
) -> Decision:
    def change(record: object) -> object:
        match record:
            case Task():
                return task(record)
            case Run():
                return run(record)
            case Usage():
                return usage(record)
            case _:
                return record

    groups = [
        Group(tuple((kind, change(record)) for kind, record in group.changes), group.events)  # type: ignore[misc]
        for group in decision.groups
    ]
    return replace(decision, groups=tuple(groups))


def _with_runs(change: Callable[[Run], Run]) -> Rules:
    """The scheduler takes every run for another."""

    def lied_to(standing: Standing, agenda: Agenda, seen: Seen, now: float, policy: Policy) -> Decision:
        true = standing.runs
        standing.runs = {run_id: change(run) for run_id, run in true.items()}
        try:
            return decide(standing, agenda, seen, now, policy)
        finally:
            standing.runs = true

    return Rules(decide=lied_to)


def _ignore_stop(run: Run) -> Run:
    return replace(run, wanted="run")


def _upside_down(run: Run) -> Run:
    return replace(run, plan=replace(run.plan, priority=100 - run.plan.priority))


def _everybody_makes_room(standing: Standing, agenda: Agenda, seen: Seen, now: float, policy: Policy) -> Decision:
    allowed, standing.preemptible = (
        standing.preemptible,
        {run: None for run in standing.runs if standing.books[run].live()},
    )
    true = standing.runs
    standing.runs = {run_id: replace(run, plan=replace(run.plan, preemptible=True)) for run_id, run in true.items()}
    try:
        decision = decide(standing, agenda, seen, now, policy)
    finally:
        standing.runs, standing.preemptible = true, allowed
    plans = {run_id: run.plan for run_id, run in true.items()}
    return _rewrite(decision, run=lambda run: replace(run, plan=plans[run.id]))


def _forget_what_is_held(standing: Standing, agenda: Agenda, seen: Seen, now: float, policy: Policy) -> Decision:
    with standing.rooms.as_if_ended([task for task, _ in standing.held.tasks.values()]):
        return decide(standing, agenda, seen, now, policy)


def _forget_quotas(standing: Standing, agenda: Agenda, seen: Seen, now: float, policy: Policy) -> Decision:
    true, standing.quotas = standing.quotas, {}
    try:
        return decide(standing, agenda, seen, now, policy)
    finally:
        standing.quotas = true


def _same_epoch(standing: Standing, agenda: Agenda, seen: Seen, now: float, policy: Policy) -> Decision:
    return _rewrite(decide(standing, agenda, seen, now, policy), lambda task: replace(task, epoch=1))


def _gang_goes_at_once(standing: Standing, agenda: Agenda, seen: Seen, now: float, policy: Policy) -> Decision:
    return _rewrite(decide(standing, agenda, seen, now, policy), lambda task: replace(task, go=True))


def _work_is_free(standing: Standing, agenda: Agenda, seen: Seen, now: float, policy: Policy) -> Decision:
    return _rewrite(decide(standing, agenda, seen, now, policy), run=lambda run: replace(run, cost=0.0))


def _charged_twice(standing: Standing, agenda: Agenda, seen: Seen, now: float, policy: Policy) -> Decision:
    def twice(usage: Usage) -> Usage:
        return replace(usage, spent={month: 2 * money for month, money in usage.spent.items()})

    return _rewrite(decide(standing, agenda, seen, now, policy), usage=twice)


def _preemption_is_failure(standing: Standing, agenda: Agenda, seen: Seen, now: float, policy: Policy) -> Decision:
    return _rewrite(decide(standing, agenda, seen, now, policy), run=lambda run: replace(run, preempted=0))


def _nobody_is_ever_lost(standing: Standing, agenda: Agenda, seen: Seen, now: float, policy: Policy) -> Decision:
    return decide(standing, agenda, replace(seen, unrenewed=dict.fromkeys(seen.unrenewed, 0.0)), now, policy)


def _lost_at_the_first_silence(standing: Standing, agenda: Agenda, seen: Seen, now: float, policy: Policy) -> Decision:
    return decide(standing, agenda, seen, now, replace(policy, lease_s=3.0, margin_s=0.0))


def _lose_the_last_change(standing: Standing, agenda: Agenda, seen: Seen, now: float, policy: Policy) -> Decision:
    """A run's state is written without its tasks."""
    decision = decide(standing, agenda, seen, now, policy)
    groups = [
        replace(group, changes=tuple(one for one in group.changes if one[0] is not TASKS or one[1].version == 0))
        for group in decision.groups
    ]
    return replace(decision, groups=tuple(groups))


def _forget_timers(standing: Standing, agenda: Agenda, seen: Seen, now: float, policy: Policy) -> Decision:
    """What time alone changes is never looked at."""
    decision = decide(standing, agenda, seen, now, policy)
    for run in standing.runs:
        standing.run_timers.set(run, None)
    return decision


def _late_words_count(task: Task, report: TaskReport, now: float) -> Task | None:
    """A report that comes late, of a state that the task has left, counts; of one that is over none ever does."""
    seen = observe(task, report, now)
    is_late = seen is None and report.epoch == task.epoch and report.state is not task.state
    return replace(task, state=report.state) if is_late else seen


MUTANTS = {
    "stop is ignored": Laws(rules=_with_runs(_ignore_stop)),
    "placement forgets what is held": Laws(rules=Rules(decide=_forget_what_is_held)),
    "epochs do not grow": Laws(rules=Rules(decide=_same_epoch)),
    "a gang goes at once": Laws(rules=Rules(decide=_gang_goes_at_once)),
    "work is free": Laws(rules=Rules(decide=_work_is_free)),
    "work is charged twice": Laws(rules=Rules(decide=_charged_twice)),
    "quotas are forgotten": Laws(rules=Rules(decide=_forget_quotas)),
    "the low preempt the high": Laws(rules=_with_runs(_upside_down)),
    "everybody is preemptible": Laws(rules=Rules(decide=_everybody_makes_room)),
    "making room counts as failing": Laws(rules=Rules(decide=_preemption_is_failure)),
    "nobody is ever lost": Laws(rules=Rules(decide=_nobody_is_ever_lost)),
    "leases end early at the server": Laws(rules=Rules(decide=_lost_at_the_first_silence)),
    "tasks are not told to stop": Laws(rules=Rules(decide=_lose_the_last_change)),
    "timers are forgotten": Laws(rules=Rules(decide=_forget_timers), policy=replace(POLICY, rebuild_s=1e9)),
    "late words count": Laws(rules=Rules(observe=_late_words_count)),
    "an end is seen before its log": Laws(log_is_always_whole=True),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_some_seed_catches(name: str) -> None:
    for seed in range(MOST_SEEDS):
        try:
            play(seed, MUTANTS[name])
        except AssertionError:
            return
    pytest.fail(f"{MOST_SEEDS} seeds live with this bug: {name}")
