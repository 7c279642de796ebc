"""What agents say and hear."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from nexus.kernel.errors import ConflictError, FencedError, NotFoundError, UsageError
from nexus.kernel.records import Kind
from nexus.launch.model import TASKS, Cause, NodeState, OnExit, Port, Retry, RunState, TaskState
from nexus.launch.protocol import PROTOCOL, Report, TaskReport
from tests.launch.build import info, needs, role, said
from tests.launch.service.house import ADA, POLICY, House, in_house


@in_house
async def test_a_task_lives_from_order_to_acknowledgement(house: House) -> None:
    node = await house.join()
    run = await house.submit()
    order = await house.order(node)
    assert (order.epoch, order.wanted, order.go, order.lease_s) == (1, "run", True, POLICY.lease_s)
    await house.say(node, order, TaskState.PREPARING, detail="installing")
    assert (await house.launch.tasks(ADA, run.id))[0].detail == "installing"
    assert (await house.run(run)).state is RunState.STARTING
    await house.say(node, order, TaskState.RUNNING)
    assert (await house.run(run)).state is RunState.RUNNING
    desired = await house.say(node, order, TaskState.SUCCEEDED, exit_code=0)
    assert (desired.orders, desired.acknowledged) == ((), (order.task,))
    assert (await house.run(run)).state is RunState.SUCCEEDED
    kinds = [event.kind for event in await house.launch.events(ADA, subject=run.id)]
    assert kinds == [
        "run.queued",
        "task.leased",
        "run.starting",
        "task.preparing",
        "task.running",
        "run.running",
        "task.succeeded",
        "run.succeeded",
    ]


@in_house
async def test_a_long_poll_answers_when_something_changes_and_at_the_heartbeat(house: House) -> None:
    node = await house.join()
    idle = await house.sync(node)
    began = house.clock.monotonic()
    again = await house.sync(node, since=idle.version, wait_s=60.0)
    assert house.clock.monotonic() - began == pytest.approx(POLICY.heartbeat_s)
    assert again.version == idle.version
    polling = asyncio.ensure_future(house.sync(node, since=idle.version, wait_s=60.0))
    await house.clock.sleep(1.0)
    began = house.clock.monotonic()
    await house.submit()
    await house.settle()
    assert len((await polling).orders) == 1
    assert house.clock.monotonic() - began < 0.1
    assert (await polling).version > idle.version


@in_house
async def test_an_end_is_seen_when_its_log_is_whole(house: House) -> None:
    node = await house.join()
    run = await house.submit()
    order = await house.order(node)
    end = said(order, TaskState.SUCCEEDED, exit_code=0, log_end=100)
    desired = await house.sync(node, end)
    assert desired.acknowledged == ()
    house.logs[order.task] = 99
    polling = asyncio.ensure_future(house.sync(node, end, since=desired.version, wait_s=5.0))
    await house.clock.sleep(1.0)
    assert not polling.done()
    assert (await house.launch.tasks(ADA, run.id))[0].state is TaskState.LEASED
    house.log_arrives(order.task, 100)
    assert (await polling).acknowledged == (order.task,)
    await house.settle()
    assert (await house.run(run)).state is RunState.SUCCEEDED


@in_house
async def test_a_log_that_never_comes_delays_the_end_only_so_long(house: House) -> None:
    node = await house.join()
    await house.submit()
    order = await house.order(node)
    end = said(order, TaskState.SUCCEEDED, exit_code=0, log_end=100)
    for _ in range(int(POLICY.log_patience_s / POLICY.heartbeat_s) + 2):
        desired = await house.sync(node, end)
        await house.clock.sleep(POLICY.heartbeat_s)
    assert desired.acknowledged == (order.task,)


@in_house
async def test_a_silent_node_is_unreachable_then_gone_and_its_tasks_lost(house: House) -> None:
    node = await house.join()
    run = await house.submit(retry=Retry(1))
    order = await house.order(node)
    await house.say(node, order, TaskState.RUNNING)
    await house.clock.sleep(POLICY.unreachable_s + 0.1)
    await house.settle()
    assert (await house.launch.node(ADA, "a")).state is NodeState.UNREACHABLE
    assert (await house.run(run)).state is RunState.RUNNING, "its lease still holds"
    await house.clock.sleep(POLICY.lost_s)
    await house.settle()
    assert (await house.launch.node(ADA, "a")).state is NodeState.GONE
    (task,) = await house.launch.tasks(ADA, run.id)
    assert (task.state, task.cause) == (TaskState.LOST, Cause.NODE_LOST)
    queued = await house.run(run)
    assert (queued.state, queued.attempt) == (RunState.QUEUED, 1)
    with pytest.raises(FencedError):
        await house.launch.holds(node.id, order.task, order.epoch)
    desired = await house.sync(node, said(order, TaskState.RUNNING))
    assert desired.orders == (), "what came back too late is told to end"
    assert (await house.launch.node(ADA, "a")).state is NodeState.ONLINE
    await house.clock.sleep(10.0)
    await house.settle()
    (again,) = (await house.sync(node)).orders
    assert (again.epoch, again.attempt) == (2, 1)


@in_house
async def test_a_restarted_server_loses_nothing_and_takes_nobody_for_silent(house: House) -> None:
    node = await house.join()
    run = await house.submit()
    order = await house.order(node)
    await house.say(node, order, TaskState.RUNNING)
    await house.clock.sleep(POLICY.lost_s - 1)
    house.launch = house.new_launch()
    await house.settle()
    await house.clock.sleep(5.0)
    await house.settle()
    assert (await house.run(run)).state is RunState.RUNNING
    await house.say(node, order, TaskState.SUCCEEDED, exit_code=0)
    assert (await house.run(run)).state is RunState.SUCCEEDED


@in_house
async def test_a_machine_made_anew_has_lost_its_tasks_at_once(house: House) -> None:
    node = await house.join()
    run = await house.submit()
    order = await house.order(node)
    await house.say(node, order, TaskState.RUNNING)
    await house.sync(node, boot="boot2")
    await house.settle()
    failed = await house.run(run)
    assert (failed.state, failed.cause) == (RunState.FAILED, Cause.NODE_LOST)


@in_house
async def test_a_late_report_from_before_a_machine_started_anew_undoes_nothing(house: House) -> None:
    """Found by the simulation (seed 132): it looked like one more new start, and the new tasks were given away."""
    node = await house.join()
    await house.sync(node, boot="boot1")
    await house.sync(node, boot="boot2")
    run = await house.submit()
    await house.settle()
    with pytest.raises(FencedError, match="started anew"):
        await house.sync(node, boot="boot1")
    await house.settle()
    assert (await house.run(run)).state is RunState.STARTING
    await house.sync(node, boot="boot2")


@in_house
async def test_a_node_that_forgot_a_task_loses_its_lease(house: House) -> None:
    node = await house.join()
    run = await house.submit()
    await house.say(node, await house.order(node), TaskState.RUNNING)
    for _ in range(20):
        await house.sync(node)
        await house.clock.sleep(POLICY.heartbeat_s)
        await house.settle()
    assert (await house.run(run)).cause is Cause.NODE_LOST


@in_house
async def test_heartbeats_write_nothing(house: House) -> None:
    node = await house.join()
    await house.submit()
    order = await house.order(node)
    await house.say(node, order, TaskState.RUNNING)
    before = {name: dict(table.rows) for name, table in house.records._tables.items()}
    for _ in range(30):
        await house.clock.sleep(POLICY.heartbeat_s)
        await house.say(node, order, TaskState.RUNNING)
    assert {name: dict(table.rows) for name, table in house.records._tables.items()} == before


@in_house
async def test_a_gang_waits_for_all_and_learns_where_all_are(house: House) -> None:
    nodes = [await house.join(name, cpu=1) for name in ("a", "b")]
    await house.submit(role(count=2, gang=True, needs=needs(cpu=1), ports=(Port("rendezvous"),)))
    orders = [await house.order(node) for node in nodes]
    assert [order.go for order in orders] == [False, False]
    await house.say(nodes[0], orders[0], TaskState.READY, ports={"rendezvous": 1})
    assert (await house.sync(nodes[0], said(orders[0], TaskState.READY))).orders[0].go is False
    await house.say(nodes[1], orders[1], TaskState.READY, ports={"rendezvous": 2})
    for node, order in zip(nodes, orders, strict=True):
        (told,) = (await house.sync(node, said(order, TaskState.READY))).orders
        assert told.go
        assert [(peer.index, peer.ports) for peer in told.peers] == [(0, {"rendezvous": 1}), (1, {"rendezvous": 2})]


@in_house
async def test_a_gang_gets_all_its_nodes_or_none(house: House) -> None:
    await house.join("a", cpu=1)
    run = await house.submit(role(count=2, gang=True, needs=needs(cpu=1)))
    await house.settle()
    assert await house.launch.tasks(ADA, run.id) == []
    assert "at once" in (await house.run(run)).reason
    await house.join("b", cpu=1)
    await house.settle()
    assert len(await house.launch.tasks(ADA, run.id)) == 2


@in_house
async def test_holds_guards_streams(house: House) -> None:
    node, other = await house.join("a"), await house.join("b", cpu=1)
    await house.submit(role(needs=needs(cpu=4)))
    order = await house.order(node)
    assert (await house.launch.holds(node.id, order.task, order.epoch)).id == order.task
    for holder, epoch in ((other.id, order.epoch), (node.id, order.epoch + 1)):
        with pytest.raises(FencedError):
            await house.launch.holds(holder, order.task, epoch)
    with pytest.raises(NotFoundError):
        await house.launch.holds(node.id, "task_nobody", 1)


@in_house
async def test_another_nodes_report_is_not_about_this_task(house: House) -> None:
    node, other = await house.join("a"), await house.join("b", cpu=1)
    run = await house.submit(role(needs=needs(cpu=4)))
    order = await house.order(node)
    desired = await house.say(other, order, TaskState.SUCCEEDED, exit_code=0)
    assert desired.acknowledged == (order.task,), "the stranger may forget it"
    assert (await house.run(run)).state is RunState.STARTING


@in_house
async def test_an_unknown_protocol_is_refused_with_a_next_step(house: House) -> None:
    node = await house.join()
    for protocol, who in ((PROTOCOL + 1, "server"), (PROTOCOL - 1, "agent")):
        with pytest.raises(UsageError) as refused:
            await house.launch.sync(node.id, Report(info=info("a"), protocol=protocol), 0, 0)
        assert f"Upgrade the {who}" in refused.value.hint


@in_house
async def test_names_of_nodes_are_unique_and_gone_ones_free_theirs(house: House) -> None:
    first, second = await house.join("Lab PC"), await house.join("Lab PC")
    assert (first.name, second.name) == ("lab-pc", "lab-pc-2")
    for _ in range(10):
        await house.clock.sleep(POLICY.heartbeat_s)
        await house.sync(second)
    await house.settle()
    assert (await house.launch.node(ADA, first.id)).state is NodeState.GONE
    third = await house.join("Lab PC")
    assert third.name == "lab-pc"
    with pytest.raises(NotFoundError):
        await house.sync(first)


@in_house
async def test_a_drained_node_keeps_its_tasks_and_gets_no_new_ones(house: House) -> None:
    node = await house.join()
    first = await house.submit()
    order = await house.order(node)
    await house.launch.drain(ADA, "a")
    second = await house.submit(name="second")
    await house.settle()
    assert (await house.run(second)).rejections == ("a: is draining",)
    with pytest.raises(ConflictError, match="still has 1 tasks"):
        await house.launch.remove(ADA, "a")
    await house.clock.sleep(POLICY.unreachable_s + 1)
    await house.settle()
    await house.say(node, order, TaskState.SUCCEEDED, exit_code=0)
    assert (await house.launch.node(ADA, "a")).state is NodeState.DRAINING, "a silence does not end it"
    assert (await house.run(first)).state is RunState.SUCCEEDED
    await house.launch.remove(ADA, "a")
    with pytest.raises(NotFoundError, match="was removed"):
        await house.sync(node)


@in_house
async def test_what_a_node_says_of_itself_is_kept(house: House) -> None:
    node = await house.join(cpu=2)
    await house.sync(node, cpu=16, labels={"site": "x"}, region="eu-1", price=1.0)
    known = await house.launch.node(ADA, "a")
    assert (known.capacity.cpu, known.labels, known.region, known.price) == (16, {"site": "x"}, "eu-1", 1.0)
    assert replace(known, version=0) == replace(await house.launch.node(ADA, node.id), version=0)


@in_house
async def test_two_schedulers_never_give_one_place_twice(house: House) -> None:
    await house.join("a", cpu=4)
    run = await house.submit(role(count=4, needs=needs(cpu=1)))
    other = house.new_launch()
    await asyncio.gather(*(launch.schedule_once() for launch in (house.launch, other) * 3))
    tasks = await house.launch.tasks(ADA, run.id)
    assert sorted(task.index for task in tasks) == [0, 1, 2, 3]
    assert len({task.epoch for task in tasks}) == 4


@in_house
async def test_a_late_report_of_an_older_state_changes_nothing(house: House) -> None:
    node = await house.join()
    run = await house.submit()
    order = await house.order(node)
    late = TaskReport(task=order.task, epoch=order.epoch, state=TaskState.PREPARING)
    await house.say(node, order, TaskState.RUNNING)
    await house.sync(node, late)
    assert (await house.launch.tasks(ADA, run.id))[0].state is TaskState.RUNNING


@in_house
async def test_a_log_that_cannot_be_read_holds_up_its_own_task_only(house: House) -> None:
    """Neither are the node's leases renewed no more, nor is an end hidden for ever."""
    node = await house.join()
    run = await house.submit(role())
    order = await house.order(node)
    await house.say(node, order, TaskState.RUNNING)

    async def fails(task_id: str) -> int:
        raise OSError(f"the log of {task_id} cannot be read")

    house.log_end = fails  # type: ignore[method-assign]
    end = said(order, TaskState.SUCCEEDED, exit_code=0, log_end=100)
    desired = await house.sync(node, end)
    assert [one.task for one in desired.orders] == [order.task]
    assert desired.acknowledged == ()
    for _ in range(int(POLICY.log_patience_s / POLICY.heartbeat_s) + 2):
        await house.clock.sleep(POLICY.heartbeat_s)
        desired = await house.sync(node, end)
    assert desired.acknowledged == (order.task,)
    await house.settle()
    assert (await house.run(run)).state is RunState.SUCCEEDED


@in_house
async def test_a_refused_sync_listens_no_more(house: House) -> None:
    node = await house.join()
    await house.launch.remove(ADA, node.id)
    with pytest.raises(NotFoundError):
        await house.sync(node)
    assert not house.hints._waiting


@in_house
async def test_a_sync_reads_no_ended_attempts(house: House) -> None:
    """A replica that is started again and again makes the heartbeats of its node no slower."""
    node = await house.join()
    run = await house.submit(role("replica", on_exit=OnExit.RESTART, ports=(Port("http"),)))
    order = await house.order(node)
    await house.say(node, order, TaskState.READY, ports={"http": 81})
    (task,) = await house.launch.tasks(ADA, run.id)
    ended = [replace(task, id=f"task_{n:013}", version=0, state=TaskState.FAILED, ended=0.0) for n in range(300)]
    await house.records.apply(*((TASKS, one) for one in ended))
    find, read = house.records.find, []

    async def counted(kind: Kind[Any], *asked: Any, **more: Any) -> list[Any]:
        rows = await find(kind, *asked, **more)
        read.extend(rows)
        return rows

    house.records.find = counted  # type: ignore[method-assign]
    desired = await house.sync(node, said(order, TaskState.READY, ports={"http": 81}))
    assert [peer.ports for peer in desired.orders[0].peers] == [{"http": 81}]
    assert len(read) < 10


@in_house
async def test_a_sync_without_news_searches_for_nothing(house: House) -> None:
    node = await house.join()
    await house.submit()
    order = await house.order(node)
    first = await house.say(node, order, TaskState.RUNNING)

    async def refuse(*_: object, **__: object) -> list[Any]:
        raise AssertionError("a heartbeat asked the store")

    house.records.find = refuse  # type: ignore[method-assign]
    again = await house.sync(node, said(order, TaskState.RUNNING))
    assert (again.version, again.orders) == (first.version, first.orders)
    assert again.orders[0] is first.orders[0]


@in_house
async def test_orders_follow_the_run_s_scale_and_where_its_other_tasks_listen(house: House) -> None:
    node = await house.join()
    replica = role("replica", count=1, on_exit=OnExit.RESTART, ports=(Port("http"),))
    run = await house.submit(replica)
    order = await house.order(node)
    await house.say(node, order, TaskState.RUNNING, ports={"http": 7001})
    (alone,) = (await house.sync(node, said(order, TaskState.RUNNING, ports={"http": 7001}))).orders
    assert (alone.count, [peer.ports["http"] for peer in alone.peers]) == (1, [7001])
    await house.launch.scale(ADA, run.id, "replica", 2)
    await house.settle()
    both = (await house.sync(node, said(order, TaskState.RUNNING, ports={"http": 7001}))).orders
    assert [one.count for one in both] == [2, 2]
    reports = (
        said(both[0], TaskState.RUNNING, ports={"http": 7001}),
        said(both[1], TaskState.RUNNING, ports={"http": 7002}),
    )
    desired = await house.sync(node, *reports)
    assert [[peer.ports["http"] for peer in one.peers] for one in desired.orders] == [[7001, 7002], [7001, 7002]]
