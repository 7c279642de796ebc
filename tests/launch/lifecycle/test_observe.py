"""Observations: what moves a task, and what is fenced off."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nexus.launch.core.observing import observe
from nexus.launch.model import TASK_LIFE, Cause, TaskState
from tests.launch.build import said, task


def test_a_report_moves_a_task_and_stamps_its_times() -> None:
    leased = task(state=TaskState.LEASED)
    runs = observe(leased, said(leased, TaskState.RUNNING, ports={"http": 1}, healthy=True), 5.0)
    assert runs is not None
    assert (runs.state, runs.started, runs.ports, runs.healthy) == (TaskState.RUNNING, 5.0, {"http": 1}, True)
    ended = observe(runs, said(runs, TaskState.FAILED, exit_code=3, cause=Cause.EXIT, healthy=True), 9.0)
    assert ended is not None
    assert (ended.ended, ended.exit_code, ended.cause, ended.healthy) == (9.0, 3, Cause.EXIT, False)
    assert ended.started == 5.0


def test_another_lease_is_fenced() -> None:
    mine = task(epoch=4)
    assert observe(mine, replace(said(mine, TaskState.SUCCEEDED), epoch=3), 1.0) is None
    assert observe(mine, replace(said(mine, TaskState.SUCCEEDED), task="task_y"), 1.0) is None


@pytest.mark.parametrize("old", list(TaskState))
@pytest.mark.parametrize("new", list(TaskState))
def test_only_moves_of_the_life_cycle_count(old: TaskState, new: TaskState) -> None:
    before = task(state=old, cause=Cause.EXIT if TASK_LIFE.is_final(old) else None)
    after = observe(before, said(before, new, detail="changed"), 1.0)
    legal = TASK_LIFE.may(old, new) and not TASK_LIFE.is_final(old)
    assert (after is not None) == legal


def test_the_same_report_again_changes_nothing() -> None:
    leased = task(state=TaskState.LEASED)
    report = said(leased, TaskState.PREPARING, detail="installing")
    once = observe(leased, report, 1.0)
    assert once is not None
    assert observe(once, report, 2.0) is None
