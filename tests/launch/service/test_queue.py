"""The queue as people meet it: quotas, room that is kept, backfill, preemption, and words for all of it."""

from __future__ import annotations

import pytest

from nexus.kernel.errors import ForbiddenError, UsageError
from nexus.launch.core.queue.views import QuotaRequest
from nexus.launch.model import Cause, Node, Run, RunState, TaskState
from nexus.launch.protocol import TaskOrder
from tests.launch.build import needs, role
from tests.launch.service.house import ADA, EVE, House, in_house, replace

OWNER = replace(ADA, owner=True)


async def submit(house: House, name: str, cpu: float, count: int = 1, **more: object) -> Run:
    return await house.submit(role(count=count, needs=needs(cpu=cpu), gang=count > 1), name=name, **more)  # type: ignore[arg-type]


async def states(house: House, *runs: Run) -> list[RunState]:
    await house.settle()
    return [(await house.run(run)).state for run in runs]


async def said_of(house: House, run: Run) -> str:
    return "\n".join((await house.launch.waiting(ADA, run.id)).lines)


async def minute(house: House, node: Node, order: TaskOrder, other: Node) -> None:
    """Time passes, and both nodes go on speaking."""
    for _ in range(7):
        await house.clock.sleep(10)
        await house.sync(other)
        await house.say(node, order, TaskState.RUNNING)


@in_house
async def test_a_quota_is_waited_for_with_its_reason(house: House) -> None:
    await house.join(cpu=8)
    await house.launch.quotas.change(OWNER, QuotaRequest(cpu=3.0))
    first, second = await submit(house, "first", 2), await submit(house, "second", 2)
    assert await states(house, first, second) == [RunState.STARTING, RunState.QUEUED]
    assert (await house.run(second)).reason == "quota: the project p may hold 3 cpu at once; this takes 2"
    view = await house.launch.quotas.show(ADA)
    assert (view.held.cpu, view.tasks, view.quota.cpu) == (2.0, 1, 3.0)
    await house.launch.quotas.change(OWNER, QuotaRequest(lift=("cpu",)))
    assert await states(house, second) == [RunState.STARTING]
    kinds = [event.kind for event in await house.launch.events(ADA, subject="quota_p")]
    assert kinds == ["quota.changed", "quota.changed"]


@in_house
async def test_a_spent_budget_stops_new_leases_until_next_month(house: House) -> None:
    node = await house.join(price=3600.0)
    await house.launch.quotas.change(OWNER, QuotaRequest(budget=50.0))
    first = await submit(house, "first", 4)
    order = await house.order(node)
    await house.clock.sleep(60)
    await house.say(node, order, TaskState.SUCCEEDED, exit_code=0)
    assert (await house.run(first)).cost == pytest.approx(60.0)
    second = await submit(house, "second", 4)
    assert await states(house, second) == [RunState.QUEUED]
    assert "has spent its budget of 50.00" in (await house.run(second)).reason
    assert (await house.launch.quotas.show(ADA)).spent == pytest.approx(60.0)
    await house.launch.quotas.change(OWNER, QuotaRequest(budget=100.0))
    await house.sync(node, price=3600.0)
    assert await states(house, second) == [RunState.STARTING]


@in_house
async def test_who_may_set_quotas_and_what_is_no_quota(house: House) -> None:
    with pytest.raises(ForbiddenError):
        await house.launch.quotas.change(ADA, QuotaRequest(gpus=1))
    for wrong in (QuotaRequest(weight=0.0), QuotaRequest(gpus=-1), QuotaRequest(lift=("nothing",))):
        with pytest.raises(UsageError):
            await house.launch.quotas.change(OWNER, wrong)
    await house.launch.quotas.change(OWNER, QuotaRequest(gpus=1))
    assert (await house.launch.quotas.show(EVE)).quota.gpus is None, "another project's is not shown"


@in_house
async def test_a_higher_run_preempts_one_that_allows_it(house: House) -> None:
    node = await house.join(cpu=4)
    stays = await submit(house, "stays", 2)
    goes = await submit(house, "goes", 2, preemptible=True)
    await house.settle()
    orders = {order.run: order for order in (await house.sync(node)).orders}
    for order in orders.values():
        await house.say(node, order, TaskState.RUNNING)
    await house.clock.sleep(30)
    high = await submit(house, "high", 2, priority=80)
    assert await states(house, stays, goes, high) == [RunState.RUNNING, RunState.STOPPING, RunState.QUEUED]
    assert (await house.run(goes)).cause is Cause.PREEMPTED
    assert "goes makes room for it on a" in await said_of(house, high)
    late = await submit(house, "late", 2, priority=90)
    assert await states(house, stays, late) == [RunState.RUNNING, RunState.QUEUED], (
        "stays allows nobody to take its room"
    )
    stopped = orders[goes.id]
    await house.say(node, stopped, TaskState.STOPPED)
    queued, started = RunState.QUEUED, RunState.STARTING
    assert await states(house, goes, late, high) == [queued, started, queued], "the highest of all has the room"
    again = await house.run(goes)
    assert (again.attempt, again.preempted, again.cause) == (1, 1, None)
    assert "it has made room for others once" in await said_of(house, goes)


@in_house
async def test_who_ends_in_its_grace_has_ended(house: House) -> None:
    node = await house.join(cpu=4)
    goes = await submit(house, "goes", 4, preemptible=True)
    order = await house.order(node)
    await house.say(node, order, TaskState.RUNNING)
    high = await submit(house, "high", 4, priority=80)
    assert await states(house, goes, high) == [RunState.STOPPING, RunState.QUEUED]
    await house.say(node, order, TaskState.SUCCEEDED, exit_code=0)
    assert await states(house, goes, high) == [RunState.SUCCEEDED, RunState.STARTING]


@in_house
async def test_nobody_preempts_an_equal_or_an_unwilling_run(house: House) -> None:
    node = await house.join(cpu=4)
    await submit(house, "runs", 4, preemptible=True)
    await house.say(node, await house.order(node), TaskState.RUNNING)
    equal = await submit(house, "equal", 4)
    assert await states(house, equal) == [RunState.QUEUED]
    other = await house.join("b", cpu=4)
    await submit(house, "unwilling", 4)
    await house.settle()
    assert len((await house.sync(other)).orders) == 1
    high = await submit(house, "high", 4, count=2, priority=90)
    assert await states(house, high) == [RunState.QUEUED]
    assert "makes room" not in await said_of(house, high)


@in_house
async def test_room_is_kept_for_a_gang_and_only_who_ends_in_time_goes_before(house: House) -> None:
    nodes = [await house.join("a", cpu=4), await house.join("b", cpu=4)]
    long = await submit(house, "long", 4, timeout_s=600.0)
    await house.settle()
    busy, free = nodes if (await house.sync(nodes[0])).orders else nodes[::-1]
    running = (await house.sync(busy)).orders[0]
    await house.say(busy, running, TaskState.RUNNING)
    gang = await submit(house, "gang", 4, count=2)
    assert await states(house, gang) == [RunState.QUEUED]
    await minute(house, busy, running, free)
    assert await states(house, gang) == [RunState.QUEUED]
    assert "it starts when long ends, in 9m" in await said_of(house, gang)
    endless = await submit(house, "endless", 4)
    too_long = await submit(house, "too-long", 4, timeout_s=700.0)
    quick = await submit(house, "quick", 4, timeout_s=60.0)
    waiting, started = RunState.QUEUED, RunState.STARTING
    assert await states(house, endless, too_long, quick, gang) == [waiting, waiting, started, waiting]
    assert "is kept for gang; a run with a timeout below" in await said_of(house, endless)
    order = (await house.sync(free)).orders[0]
    assert (await house.run(quick)).until is not None
    await house.say(free, order, TaskState.SUCCEEDED, exit_code=0)
    assert await states(house, endless, gang) == [waiting, waiting], "the room is the gang's again"
    await house.say(busy, running, TaskState.SUCCEEDED, exit_code=0)
    assert await states(house, long, gang, endless) == [RunState.SUCCEEDED, started, waiting]


@in_house
async def test_who_borrowed_room_and_began_too_late_makes_room(house: House) -> None:
    nodes = [await house.join("a", cpu=4), await house.join("b", cpu=4)]
    await submit(house, "long", 4, timeout_s=300.0)
    await house.settle()
    busy, free = nodes if (await house.sync(nodes[0])).orders else nodes[::-1]
    running = (await house.sync(busy)).orders[0]
    await house.say(busy, running, TaskState.RUNNING)
    await submit(house, "gang", 4, count=2)
    await minute(house, busy, running, free)
    quick = await submit(house, "quick", 4, timeout_s=100.0)
    assert await states(house, quick) == [RunState.STARTING]
    until = (await house.run(quick)).until
    assert until is not None
    while house.clock.now() < until - 5.0:  # it never gets to run: its preparation takes for ever
        await house.clock.sleep(10)
        await house.say(busy, running, TaskState.RUNNING)
        await house.say(free, (await house.sync(free)).orders[0], TaskState.PREPARING)
    assert (await house.run(quick)).cause is Cause.PREEMPTED
