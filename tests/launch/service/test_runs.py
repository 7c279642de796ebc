"""What people do with runs."""

from __future__ import annotations

import asyncio

import pytest

from nexus.kernel.errors import ConflictError, ForbiddenError, NoCapacityError, NotFoundError, UsageError
from nexus.kernel.identity import Principal, PrincipalKind, Role
from nexus.launch.model import OnExit, RunState, Submission, TaskState
from tests.launch.build import needs, plan, role
from tests.launch.service.house import ADA, EVE, House, in_house


@in_house
async def test_the_same_key_gives_the_same_run(house: House) -> None:
    first, second = await house.submit(key="k"), await house.submit(key="k")
    assert first == second
    assert len(await house.launch.runs(ADA)) == 1
    assert (await house.submit()).id != first.id


@in_house
async def test_a_run_is_found_by_id_beginning_and_name(house: House) -> None:
    old, new = await house.submit(), await house.submit()
    await house.clock.sleep(1)
    newest = await house.submit()
    for reference in (newest.id, newest.id[:10], newest.id.removeprefix("run_")[:6], "x"):
        assert (await house.launch.run(ADA, reference)).id == newest.id
    with pytest.raises(UsageError, match="3 runs begin with"):
        await house.launch.run(ADA, "run_")
    for reference in ("nobody", ""):
        with pytest.raises(NotFoundError):
            await house.launch.run(ADA, reference)
    assert (await house.launch.runs(ADA, limit=1)) == [newest]
    rest = await house.launch.runs(ADA, before=newest)
    assert {run.id for run in rest} == {old.id, new.id}


@in_house
async def test_nobody_sees_another_projects_run(house: House) -> None:
    run = await house.submit()
    for ask in (house.launch.run, house.launch.stop, house.launch.tasks, house.launch.restart):
        with pytest.raises(NotFoundError):
            await ask(EVE, run.id)
    assert await house.launch.runs(EVE) == []
    assert await house.launch.events(EVE) == []


@in_house
async def test_a_viewer_looks_and_a_runs_token_stops_only_itself(house: House) -> None:
    run, other = await house.submit(name="mine"), await house.submit(name="other")
    viewer = Principal(PrincipalKind.USER, "bob", "p", Role.VIEWER)
    assert (await house.launch.run(viewer, run.id)).id == run.id
    with pytest.raises(ForbiddenError):
        await house.launch.stop(viewer, run.id)
    own = Principal(PrincipalKind.RUN, run.id, "p", Role.VIEWER)
    assert (await house.launch.stop(own, run.id)).wanted == "stop"
    with pytest.raises(ForbiddenError):
        await house.launch.stop(own, other.id)


@in_house
async def test_bad_submissions_are_refused_with_a_word(house: House) -> None:
    for submission in (
        Submission(name="No Name", plan=plan()),
        Submission(name="x", plan=plan(role("a"), role("a"))),
        Submission(name="x", plan=plan(role(count=10_001))),
        Submission(name="x", plan=plan(role(count=0))),
    ):
        with pytest.raises(UsageError):
            await house.launch.submit(ADA, submission)
    with pytest.raises(NotFoundError):
        await house.submit(inputs={"base": "model://nothing@1"})
    with pytest.raises(UsageError, match="no secrets"):
        await house.submit(secrets=("HF_TOKEN",))
    assert await house.launch.runs(ADA) == []


@in_house
async def test_a_plan_says_where_and_why_not(house: House) -> None:
    await house.join("small", cpu=1)
    big = await house.join("big", cpu=8)
    placement = await house.launch.plan(ADA, Submission(name="x", plan=plan(role(needs=needs(cpu=4)))))
    assert [one.node for one in placement.assignments] == [big.id]
    assert [one.reason for one in placement.rejections] == ["needs 4 cpu; has 1"]
    with pytest.raises(NoCapacityError) as refused:
        await house.launch.need_place(ADA, Submission(name="x", plan=plan(role(needs=needs(cpu=16)))))
    assert refused.value.details["rejections"] == ["big: needs 16 cpu; has 8", "small: needs 16 cpu; has 1"]
    assert await house.launch.runs(ADA) == [], "a plan starts nothing"


@in_house
async def test_a_run_waits_with_every_reason_and_starts_when_there_is_room(house: House) -> None:
    run = await house.submit(role(needs=needs(cpu=4)))
    await house.settle()
    assert "no node" in (await house.run(run)).reason
    await house.join("small", cpu=1)
    await house.settle()
    waiting = await house.run(run)
    assert (waiting.state, waiting.rejections) == (RunState.QUEUED, ("small: needs 4 cpu; has 1",))
    await house.join("big", cpu=4)
    await house.settle()
    started = await house.run(run)
    assert (started.state, started.reason, started.rejections) == (RunState.STARTING, "", ())


@in_house
async def test_runs_wait_for_others(house: House) -> None:
    node = await house.join()
    first = await house.submit(name="first")
    second = await house.submit(name="second", after=("first",))
    order = await house.order(node)
    assert order.run == first.id
    assert (await house.run(second)).reason == f"waits for {first.id}, which is starting"
    await house.say(node, order, TaskState.SUCCEEDED, exit_code=0)
    assert (await house.order(node)).run == second.id


@in_house
async def test_a_run_whose_forerunner_failed_fails(house: House) -> None:
    node = await house.join()
    first = await house.submit(name="first")
    second = await house.submit(name="second", after=(first.id,))
    await house.say(node, await house.order(node), TaskState.FAILED, exit_code=1)
    failed = await house.run(second)
    assert (failed.state, failed.reason) == (RunState.FAILED, f"it waits for {first.id}, which is failed")


@in_house
async def test_inputs_that_a_forerunner_did_not_leave_fail_the_run(house: House) -> None:
    node = await house.join()
    await house.submit(name="first")
    second = await house.submit(name="second", after=("first",), inputs={"data": "artifact://first/data"})
    await house.say(node, await house.order(node), TaskState.SUCCEEDED, exit_code=0)
    failed = await house.run(second)
    assert failed.state is RunState.FAILED
    assert "no such artifact: artifact://first/data" in failed.reason


@in_house
async def test_inputs_are_given_by_digest(house: House) -> None:
    node = await house.join()
    house.known["model://m@1"] = "ab" * 32
    await house.submit(inputs={"base": "model://m@1"})
    order = await house.order(node)
    assert order.inputs == {"base": "ab" * 32}
    assert order.token == f"token-of-{order.run}"


@in_house
async def test_stop_is_final_whatever_the_task_says(house: House) -> None:
    node = await house.join()
    run = await house.submit()
    order = await house.order(node)
    await house.say(node, order, TaskState.RUNNING)
    stopped = await house.launch.stop(ADA, run.id)
    assert stopped == await house.launch.stop(ADA, run.id)
    await house.settle()
    (told,) = (await house.sync(node)).orders
    assert told.wanted == "stop"
    await house.say(node, order, TaskState.SUCCEEDED, exit_code=0)
    assert (await house.run(run)).state is RunState.STOPPED


@in_house
async def test_restart_is_a_new_run_of_the_same_plan(house: House) -> None:
    run = await house.submit(key="k")
    again = await house.launch.restart(ADA, "x")
    assert again.id != run.id
    assert (again.plan, again.name, again.key) == (run.plan, run.name, "")


@in_house
async def test_scale(house: House) -> None:
    node = await house.join()
    run = await house.submit(role("replica", on_exit=OnExit.RESTART))
    order = await house.order(node)
    await house.launch.scale(ADA, run.id, "replica", 2)
    await house.settle()
    assert len((await house.sync(node)).orders) == 2
    await house.launch.scale(ADA, run.id, "replica", 1)
    await house.settle()
    assert sorted((one.index, one.wanted) for one in (await house.sync(node)).orders) == [(0, "run"), (1, "stop")]
    with pytest.raises(NotFoundError):
        await house.launch.scale(ADA, run.id, "nobody", 2)
    with pytest.raises(UsageError):
        await house.launch.scale(ADA, run.id, "replica", -1)
    fixed = await house.submit(name="fixed")
    with pytest.raises(UsageError, match="fixed size"):
        await house.launch.scale(ADA, fixed.id, "main", 2)
    await house.launch.stop(ADA, run.id)
    with pytest.raises(ConflictError):
        await house.launch.scale(ADA, run.id, "replica", 2)
    assert order.index == 0


@in_house
async def test_cost_grows_while_a_task_holds_its_node(house: House) -> None:
    node = await house.join(price=3.6)
    run = await house.submit(role(needs=needs(cpu=4)))
    order = await house.order(node)
    await house.clock.sleep(100)
    (priced,) = await house.launch.priced([await house.run(run)])
    assert priced.cost == pytest.approx(0.1)
    await house.say(node, order, TaskState.FAILED, exit_code=1)
    await house.clock.sleep(100)
    ended = await house.run(run)
    assert ended.cost == pytest.approx(0.1)
    again = await house.submit(role(needs=needs(cpu=4)))
    await house.sync(node, price=3.6)  # it is back
    await house.order(node)
    await house.clock.sleep(200)
    waiting = await house.submit(role(needs=needs(cpu=4)))
    runs = [ended, await house.run(again), await house.run(waiting)]
    assert [run.cost for run in await house.launch.priced(runs)] == pytest.approx([0.1, 0.2, 0.0])


@in_house
async def test_many_runs_are_taken_in_whole_or_not_at_all(house: House) -> None:
    asked = [Submission(name=f"job{number}", plan=plan(), key=f"key{number % 3}") for number in range(6)]
    taken = await house.launch.submit_many(ADA, asked)
    assert [run.name for run in taken] == ["job0", "job1", "job2", "job0", "job1", "job2"]
    assert {(run.id, run.version) for run in await house.launch.runs(ADA)} == {(run.id, 1) for run in taken}
    again = await house.launch.submit_many(ADA, asked[:1])
    assert again == taken[:1]
    with pytest.raises(UsageError):
        await house.launch.submit_many(
            ADA, [Submission(name="fine", plan=plan()), Submission(name="Not!", plan=plan())]
        )
    missing = plan(inputs={"data": "artifact://nobody/nothing"})
    with pytest.raises(NotFoundError):
        await house.launch.submit_many(ADA, [Submission(name="fine", plan=plan()), Submission(name="x", plan=missing)])
    assert len(await house.launch.runs(ADA)) == 3


@in_house
async def test_of_two_requests_at_once_with_one_key_there_is_one_run(house: House) -> None:
    one = Submission(name="once", plan=plan(), key="the key")
    first, second = await asyncio.gather(house.launch.submit(ADA, one), house.launch.submit_many(ADA, [one]))
    assert second == [first]
