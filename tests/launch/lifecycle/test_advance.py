"""One run's next step, for every way in which tasks end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nexus.kernel.units import Range
from nexus.launch.core.lifecycle import advance, ended_cost, held_cost
from nexus.launch.core.policy import Policy
from nexus.launch.core.retrying import backoff_s, may_retry, restart_pause_s
from nexus.launch.model import Cause, OnExit, Retry, Run, RunState, Task, TaskState
from tests.launch.build import role, run, task

S, F, R = TaskState.SUCCEEDED, TaskState.FAILED, TaskState.RUNNING
POLICY = Policy()
NOW = 1000.0


def over(name: str = "main", index: int = 0, state: TaskState = S, **more: Any) -> Task:
    cause = {S: Cause.DONE, F: Cause.EXIT, TaskState.LOST: Cause.NODE_LOST, TaskState.STOPPED: Cause.STOPPED}[state]
    fields: dict[str, Any] = {"cause": cause, "started": 900.0, "ended": 990.0, "exit_code": 0 if state is S else 3}
    return task(name, index, state, **(fields | more))


def step(of: Run, *tasks: Task, now: float = NOW) -> tuple[Run, dict[str, Task], tuple[tuple[str, int], ...]]:
    progress = advance(of, tasks, now, POLICY)
    return progress.run, {one.id: one for one in progress.tasks}, progress.needed


def running(*roles: Any, **more: Any) -> Run:
    return run(*roles, **({"state": RunState.RUNNING, "started": 900.0} | more))


def test_a_new_run_wants_a_place_for_every_task() -> None:
    after, _, needed = step(run(role("a", 2), role("b")))
    assert after.state is RunState.QUEUED
    assert needed == (("a", 0), ("a", 1), ("b", 0))


def test_it_runs_once_everything_that_started_runs_and_stays_so() -> None:
    of = run(role(count=2), state=RunState.STARTING)
    ready = task(index=1, state=TaskState.PREPARING)
    assert step(of, task(), ready)[0].state is RunState.STARTING
    assert step(of, task(), task(index=1))[0].state is RunState.RUNNING
    assert step(replace(of, state=RunState.RUNNING), task(), ready)[0].state is RunState.RUNNING
    assert step(replace(of, state=RunState.RUNNING), ready)[0].state is RunState.STARTING


def test_all_succeeds_when_every_task_did() -> None:
    of = running(role(count=2))
    assert step(of, over(), task(index=1))[0].state is RunState.RUNNING
    after = step(of, over(), over(index=1))[0]
    assert (after.state, after.cause, after.exit_code, after.ended) == (RunState.SUCCEEDED, Cause.DONE, 0, NOW)


def test_all_fails_with_the_first_failure_and_stops_the_others() -> None:
    of = running(role(count=3))
    tasks = [over(state=F, ended=995.0, exit_code=9), over(index=1, state=F, ended=980.0), task(index=2)]
    after, changed, _ = step(of, *tasks)
    assert (after.state, after.reason, after.exit_code) == (RunState.STOPPING, "main[1] exited with code 3", 3)
    assert [one.wanted for one in changed.values()] == ["stop"]
    end = over(index=2, state=TaskState.STOPPED)
    assert step(after, *tasks[:2], end)[0].state is RunState.FAILED


def test_a_gangs_fallen_members_are_not_the_reason() -> None:
    peer = over(state=F, cause=Cause.PEER, ended=1.0)
    after = step(running(role(count=2)), peer, over(index=1, state=F, ended=2.0, exit_code=7))[0]
    assert after.reason == "main[1] exited with code 7"


def test_any_ends_the_run_and_stops_the_rest() -> None:
    of = running(role("server", on_exit=OnExit.ANY), role("client", 2, on_exit=OnExit.IGNORE))
    clients = [task("client", 0), over("client", 1, F)]
    after, changed, _ = step(of, over("server"), *clients)
    assert after.state is RunState.STOPPING
    assert [one.wanted for one in changed.values()] == ["stop"]
    stopped = over("client", 0, TaskState.STOPPED, wanted="stop")
    assert step(after, over("server"), stopped, clients[1])[0].state is RunState.SUCCEEDED
    failed = step(of, over("server", state=F), over("client", 0), over("client", 1))[0]
    assert failed.state is RunState.FAILED


def test_ignore_goes_on_without_and_succeeds_if_any_did() -> None:
    of = running(role(count=2, on_exit=OnExit.IGNORE))
    after, _, needed = step(of, over(state=F), task(index=1))
    assert (after.state, needed) == (RunState.RUNNING, ())
    assert step(of, over(state=F), over(index=1))[0].state is RunState.SUCCEEDED
    assert step(of, over(state=F), over(index=1, state=F))[0].state is RunState.FAILED


def test_restart_tries_again_after_a_growing_pause() -> None:
    of = running(role(on_exit=OnExit.RESTART))
    first = over(state=F, started=989.0, ended=NOW)
    after, _, needed = step(of, first)
    assert (after.state, needed) == (RunState.QUEUED, ())
    assert after.reason
    assert step(after, first, now=NOW + POLICY.restart_s)[2] == (("main", 0),)
    settled = over(state=S, started=100.0, ended=NOW)
    assert step(of, settled)[2] == (("main", 0),), "what ran long is started again at once"


def test_restart_pauses() -> None:
    short = [over(state=F, attempt=at, started=NOW - 1, ended=NOW) for at in range(12)]
    assert restart_pause_s(short[:1], POLICY) == 1.0
    assert restart_pause_s(short[:3], POLICY) == 4.0
    assert restart_pause_s(short, POLICY) == POLICY.restart_max_s
    lost = over(state=TaskState.LOST)
    assert restart_pause_s([*short, lost], POLICY) == 0.0


@pytest.mark.parametrize("state", [RunState.STARTING, RunState.RUNNING, RunState.QUEUED])
def test_stop_always_ends_in_stopped(state: RunState) -> None:
    of = run(state=state, wanted="stop")
    live = [] if state is RunState.QUEUED else [task()]
    after, changed, needed = step(of, *live)
    assert needed == ()
    if live:
        assert after.state is RunState.STOPPING
        assert [one.wanted for one in changed.values()] == ["stop"]
        after = step(after, over())[0]  # it happened to succeed at that moment
    assert (after.state, after.cause) == (RunState.STOPPED, Cause.STOPPED)


def test_stop_wins_over_retries_and_over_a_verdict() -> None:
    retry = Retry(5, ("exit",))
    assert step(running(retry=retry, wanted="stop"), over(state=F))[0].state is RunState.STOPPED
    winding = run(state=RunState.STOPPING, cause=Cause.DONE, wanted="stop")
    assert step(winding, over())[0].state is RunState.STOPPED


def test_a_failed_attempt_is_tried_again_by_cause_with_backoff() -> None:
    of = running(retry=Retry(2, ("exit:3",), Range(10.0, 15.0)))
    after = step(of, over(state=F))[0]
    assert (after.state, after.attempt, after.not_before) == (RunState.QUEUED, 1, NOW + 10.0)
    assert "attempt 1 of 3" in after.reason
    assert step(after, over(state=F))[2] == (), "not before its time"
    assert step(after, over(state=F), now=NOW + 10.0)[2] == (("main", 0),)
    second = over(state=F, attempt=1, run_attempt=1)
    again = step(replace(after, state=RunState.RUNNING), over(state=F), second, now=2000.0)[0]
    assert (again.attempt, again.not_before) == (2, 2015.0)
    last = over(state=F, attempt=2, run_attempt=2)
    final = step(replace(again, state=RunState.RUNNING), last)[0]
    assert final.state is RunState.FAILED
    assert step(running(retry=Retry(2, ("signal",))), over(state=F))[0].state is RunState.FAILED


def test_retry_names_causes() -> None:
    assert may_retry(Retry(1), 0, Cause.NODE_LOST, None)
    assert not may_retry(Retry(1), 1, Cause.NODE_LOST, None)
    assert not may_retry(Retry(1), 0, Cause.EXIT, 1)
    assert may_retry(Retry(1, ("exit:75",)), 0, Cause.EXIT, 75)
    assert backoff_s(Retry(backoff_s=Range(5.0, None)), 10) == 5120.0
    assert backoff_s(Retry(), 1000) == 300.0


def test_a_timeout_ends_the_attempt() -> None:
    of = running(timeout_s=60.0)
    assert step(of, task(started=950.0))[0].state is RunState.RUNNING
    after, changed, _ = step(of, task(started=939.0))
    assert (after.state, after.cause) == (RunState.STOPPING, Cause.TIMEOUT)
    assert changed


def test_a_gang_goes_when_all_are_ready() -> None:
    of = run(role("a", 2, gang=True), role("b", gang=True), state=RunState.STARTING)
    ready = [task("a", at, TaskState.READY, go=False) for at in range(2)]
    assert not step(of, *ready)[1], "one has no node yet"
    slow = task("b", 0, TaskState.PREPARING, go=False)
    assert not step(of, *ready, slow)[1]
    changed = step(of, *ready, replace(slow, state=TaskState.READY))[1]
    assert len(changed) == 3
    assert all(one.go for one in changed.values())


def test_scaling_down_stops_the_highest_and_up_asks_for_more() -> None:
    of = running(role("replica", 2, on_exit=OnExit.RESTART), scale={"replica": 1})
    _, changed, needed = step(of, task("replica", 0), task("replica", 1))
    assert ([one.index for one in changed.values()], needed) == ([1], ())
    bigger = replace(of, scale={"replica": 3})
    stopped = over("replica", 1, TaskState.STOPPED, wanted="stop")
    assert step(bigger, task("replica", 0), stopped)[2] == (("replica", 1), ("replica", 2))
    none = replace(of, scale={"replica": 0})
    after = step(none, over("replica", 0, TaskState.STOPPED, wanted="stop"))[0]
    assert (after.state, after.reason) == (RunState.QUEUED, "scaled to zero: no task is wanted")


def test_cost_is_price_times_the_time_held() -> None:
    held = task(price=3.6, created=100.0)
    assert held_cost(held, 200.0) == pytest.approx(0.1)
    ended = over(price=3.6, created=0.0)
    assert ended_cost([held, ended]) == pytest.approx(0.99)


def test_a_step_taken_twice_is_taken_once() -> None:
    of = running(role(count=2, gang=True), role("r", on_exit=OnExit.RESTART))
    tasks = [task(index=at, state=TaskState.READY, go=False) for at in range(2)]
    tasks.append(over("r", 0, F, ended=NOW))
    after, changed, needed = step(of, *tasks)
    again = [changed.get(one.id, one) for one in tasks]
    assert step(after, *again) == (after, {}, needed)
