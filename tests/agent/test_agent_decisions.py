"""The agent's pure decisions."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from nexus.agent.core.leases import delay_s, next_expiry, renewed
from nexus.agent.core.outcome import ended
from nexus.agent.core.reconcile import Action, Begin, End, Follow, Forget, reconcile
from nexus.agent.model import Exit, LocalTask
from nexus.launch.model import TASK_LIFE, Cause, TaskState
from nexus.launch.protocol import Desired, TaskOrder

ORDER = TaskOrder(
    task="task_1",
    run="run_1",
    run_name="job",
    project="default",
    role="main",
    index=0,
    count=1,
    attempt=1,
    epoch=3,
    lease_s=30.0,
    timeout_s=60.0,
)
RUNNING = LocalTask(order=ORDER, state=TaskState.RUNNING, started=True)
DONE = replace(RUNNING, state=TaskState.SUCCEEDED)


def desired(*orders: TaskOrder, acknowledged: tuple[str, ...] = ()) -> Desired:
    return Desired(version=1, heartbeat_s=10.0, orders=orders, acknowledged=acknowledged)


def decide(
    wanted: Desired | None, local: LocalTask | None, lease: float | None = 100.0, now: float = 50.0
) -> list[Action]:
    tasks = {"task_1": local} if local else {}
    return reconcile(wanted, tasks, {"task_1": lease} if lease is not None else {}, now=50.0)


def test_what_is_not_here_begins() -> None:
    assert decide(desired(ORDER), None) == [Begin(ORDER)]
    assert decide(desired(ORDER, acknowledged=("task_1",)), None) == []


def test_what_is_as_it_should_be_is_left_alone() -> None:
    assert decide(desired(ORDER), RUNNING) == []
    assert decide(None, RUNNING) == []


def test_a_changed_order_is_followed() -> None:
    changed = replace(ORDER, go=False)
    assert decide(desired(changed), RUNNING) == [Follow(changed)]


def test_what_is_not_wanted_ends() -> None:
    [end] = decide(desired(replace(ORDER, wanted="stop")), RUNNING)
    assert isinstance(end, End)
    assert end.why is Cause.STOPPED
    [end] = decide(desired(), RUNNING)
    assert isinstance(end, End)
    assert end.why is Cause.STOPPED


def test_a_lease_that_ran_out_ends_a_task_even_without_a_word_from_the_server() -> None:
    [end] = decide(None, RUNNING, lease=50.0)
    assert isinstance(end, End)
    assert end.why is Cause.NODE_LOST
    assert decide(None, RUNNING, lease=50.1) == []
    assert decide(None, RUNNING, lease=None) == []  # a restarted agent has not heard yet; the shim watches


def test_a_newer_epoch_ends_the_old_one_and_a_late_message_does_nothing() -> None:
    [end] = decide(desired(replace(ORDER, epoch=4)), RUNNING)
    assert isinstance(end, End)
    assert decide(desired(replace(ORDER, epoch=4)), DONE) == [Forget("task_1")]
    assert decide(desired(replace(ORDER, epoch=2, wanted="stop")), RUNNING) == []


def test_an_ended_task_is_kept_until_the_server_has_heard() -> None:
    assert decide(desired(), DONE) == []
    assert decide(desired(ORDER), DONE) == []
    assert decide(desired(acknowledged=("task_1",)), DONE) == [Forget("task_1")]


@given(st.dictionaries(st.sampled_from("abc"), st.floats(0, 1000)), st.floats(0, 1000), st.floats(0, 100))
def test_a_late_answer_never_shortens_a_lease(leases: dict[str, float], sent_at: float, lease_s: float) -> None:
    after = renewed(leases, desired(*(replace(ORDER, task=name, lease_s=lease_s) for name in "ab")), sent_at)
    assert all(after[name] >= until for name, until in leases.items())
    assert all(after[name] >= sent_at + lease_s for name in "ab")
    assert after == renewed(after, desired(*(replace(ORDER, task=name, lease_s=lease_s) for name in "ab")), sent_at)


def test_the_next_expiry_is_the_first_live_lease() -> None:
    leases = {"a": 15.0, "b": 12.0, "c": 3.0}
    assert next_expiry(leases, frozenset("ab"), 10.0, 100.0) == 2.0
    assert next_expiry(leases, frozenset(), 10.0, 100.0) == 100.0
    assert next_expiry(leases, frozenset("c"), 10.0, 100.0) == 0.0


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_waits_grow_to_a_bound(failures: int, chance: float) -> None:
    assert 0.05 <= delay_s(failures, chance) <= 10.0
    assert delay_s(failures + 1, 0.0) >= delay_s(failures, 0.0)


EXITS = st.builds(
    Exit,
    exit_code=st.one_of(st.none(), st.integers(0, 255)),
    signal=st.one_of(st.none(), st.integers(1, 64)),
    killed_for=st.sampled_from(["", "timeout", "lease", "stop", "reboot"]),
)


@given(EXITS, st.one_of(st.none(), st.sampled_from([Cause.STOPPED, Cause.HEALTH, Cause.NODE_LOST])))
def test_every_end_is_an_end_with_a_cause_and_words(end: Exit, stop: Cause | None) -> None:
    after = ended(replace(RUNNING, stop=stop), end)
    assert TASK_LIFE.is_final(after.state)
    assert after.cause is not None
    assert (after.state is TaskState.SUCCEEDED) == (after.cause is Cause.DONE)
    if after.state is TaskState.SUCCEEDED:
        assert (end.exit_code, end.signal) == (0, None)
    if end.signal:
        assert (after.exit_code, after.signal) == (-end.signal, end.signal)
