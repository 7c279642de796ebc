"""The control plane and the real agents, for many seeds of misfortune."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest

from nexus.launch.model import RunState, TaskState
from tests.simulation.scenario import play
from tests.simulation.world import World

SEEDS = 200
BLOCKS = 10


def survive(seed: int) -> World:
    """Play one seed; a failure says how to see it again."""
    try:
        return play(seed)
    except BaseException as error:
        again = f"python -c 'from tests.simulation.scenario import play; play({seed})'"
        raise AssertionError(f"seed {seed}: {error}\n  again: {again}") from error


@pytest.mark.parametrize("block", range(BLOCKS))
def test_it_survives(block: int) -> None:
    for seed in range(block * SEEDS // BLOCKS, (block + 1) * SEEDS // BLOCKS):
        survive(seed)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(50))
def test_it_survives_thousands(block: int) -> None:
    for seed in range(1000 + block * 100, 1100 + block * 100):
        survive(seed)


def test_the_seed_decides_everything() -> None:
    def trace(seed: int) -> str:
        events = [(event.kind, event.subject, event.at) for event in play(seed).records._events]
        return hashlib.sha256(repr(events).encode()).hexdigest()

    assert trace(7) == trace(7)
    assert trace(7) != trace(8)


def test_the_seeds_reach_every_corner() -> None:
    """A simulation in which nothing goes wrong, or nothing goes well, would prove nothing."""
    runs, tasks, retried, preempted = Counter[RunState](), Counter[TaskState](), 0, 0
    for seed in range(40):
        records = survive(seed).records
        runs.update(run.state for run in records.runs.values())
        tasks.update(task.state for task in records.tasks.values())
        retried += sum(run.attempt > run.preempted for run in records.runs.values())
        preempted += records.preemptions
    assert min(runs[state] for state in (RunState.SUCCEEDED, RunState.FAILED, RunState.STOPPED)) >= 5
    assert min(tasks[state] for state in (TaskState.SUCCEEDED, TaskState.FAILED, TaskState.LOST)) >= 5
    assert retried >= 5
    assert preempted >= 2
