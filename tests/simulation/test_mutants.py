"""Deliberate bugs, each of which some seed must catch: the test of the simulation itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import pytest

from nexus.launch.core.observing import observe
from nexus.launch.core.placement.fit import Room
from nexus.launch.core.placement.place import rooms_of
from nexus.launch.core.policy import Policy
from nexus.launch.core.scheduling import Decision, Group, World, decide
from nexus.launch.model import TASKS, Node, Run, Task, TaskState
from nexus.launch.protocol import TaskReport
from nexus.launch.service.context import Rules
from tests.simulation.scenario import play
from tests.simulation.world import Laws

MOST_SEEDS = 120


def _rewrite(decision: Decision, task: Callable[[Task], Task], run: Callable[[Run], Run] = lambda run: run) -> Decision:
    def change(record: object) -> object:
        return task(record) if isinstance(record, Task) else run(record) if isinstance(record, Run) else record

    groups = [
        Group(tuple((kind, change(record)) for kind, record in group.changes), group.events)  # type: ignore[misc]
        for group in decision.groups
    ]
    return Decision(tuple(groups), decision.stuck)


def _ignore_stop(world: World, now: float, policy: Policy) -> Decision:
    return decide(replace(world, runs=[replace(run, wanted="run") for run in world.runs]), now, policy)


def _forget_what_is_held(world: World, now: float, policy: Policy) -> Decision:
    def empty(nodes: Sequence[Node], held: Iterable[Task]) -> list[Room]:
        return rooms_of(nodes, ())

    return decide(world, now, policy, empty)


def _same_epoch(world: World, now: float, policy: Policy) -> Decision:
    return _rewrite(decide(world, now, policy), lambda task: replace(task, epoch=1))


def _gang_goes_at_once(world: World, now: float, policy: Policy) -> Decision:
    return _rewrite(decide(world, now, policy), lambda task: replace(task, go=True))


def _work_is_free(world: World, now: float, policy: Policy) -> Decision:
    return _rewrite(decide(world, now, policy), lambda task: task, lambda run: replace(run, cost=0.0))


def _nobody_is_ever_lost(world: World, now: float, policy: Policy) -> Decision:
    return decide(replace(world, unrenewed=dict.fromkeys(world.unrenewed, 0.0)), now, policy)


def _lost_at_the_first_silence(world: World, now: float, policy: Policy) -> Decision:
    return decide(world, now, replace(policy, lease_s=3.0, margin_s=0.0))


def _lose_the_last_change(world: World, now: float, policy: Policy) -> Decision:
    """A run's state is written without its tasks."""
    decision = decide(world, now, policy)
    groups = [
        replace(group, changes=tuple(one for one in group.changes if one[0] is not TASKS or one[1].version == 0))
        for group in decision.groups
    ]
    return Decision(tuple(groups))


def _the_dead_may_rise(task: Task, report: TaskReport, now: float) -> Task | None:
    """A late report of a lease that is over counts."""
    if task.state is TaskState.LOST and report.state is TaskState.RUNNING:
        return replace(task, state=TaskState.RUNNING)
    return observe(task, report, now)


MUTANTS = {
    "stop is ignored": Laws(rules=Rules(decide=_ignore_stop)),
    "placement forgets what is held": Laws(rules=Rules(decide=_forget_what_is_held)),
    "epochs do not grow": Laws(rules=Rules(decide=_same_epoch)),
    "a gang goes at once": Laws(rules=Rules(decide=_gang_goes_at_once)),
    "work is free": Laws(rules=Rules(decide=_work_is_free)),
    "nobody is ever lost": Laws(rules=Rules(decide=_nobody_is_ever_lost)),
    "leases end early at the server": Laws(rules=Rules(decide=_lost_at_the_first_silence)),
    "tasks are not told to stop": Laws(rules=Rules(decide=_lose_the_last_change)),
    "the dead may rise": Laws(rules=Rules(observe=_the_dead_may_rise)),
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
