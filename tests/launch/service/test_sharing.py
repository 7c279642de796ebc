"""Nodes that projects share: who may use them, who sees what, and that private ones stay private."""

from __future__ import annotations

import pytest

from nexus.kernel.errors import ForbiddenError, NoCapacityError, NotFoundError
from nexus.kernel.identity import Principal, PrincipalKind, Role
from nexus.launch.calls import CallKind, CallRequest
from nexus.launch.core.queue.views import QuotaRequest
from nexus.launch.model import Run, RunState, Submission, TaskState
from tests.launch.build import needs, plan, role
from tests.launch.service.house import ADA, EVE, House, in_house, replace

BOB = Principal(PrincipalKind.USER, "bob", "p", Role.MEMBER)


async def eves(house: House, name: str = "hers", cpu: float = 1.0) -> Run:
    """A run of the other project, which has no node of its own."""
    return await house.launch.submit(EVE, Submission(name=name, plan=plan(role(needs=needs(cpu=cpu)))))


async def state(house: House, run: Run) -> RunState:
    await house.settle()
    return (await house.launch.run(EVE, run.id)).state


@in_house
async def test_a_node_is_private_until_an_admin_of_its_project_shares_it(house: House) -> None:
    node = await house.join("lab", cpu=4)
    run = await eves(house)
    assert await state(house, run) is RunState.QUEUED
    waiting = await house.launch.run(EVE, run.id)
    assert "there is no node" in waiting.reason and not waiting.rejections
    assert await house.launch.nodes(EVE) == []
    with pytest.raises(ForbiddenError):
        await house.launch.share(BOB, "lab")
    with pytest.raises(NotFoundError):
        await house.launch.share(EVE, node.id)
    with pytest.raises(ForbiddenError):
        await house.launch.share(replace(ADA, kind=PrincipalKind.RUN), "lab")
    assert (await house.launch.share(ADA, "lab")).shared
    assert await state(house, run) is RunState.STARTING
    assert [one.name for one in await house.launch.nodes(EVE)] == ["lab"]


@in_house
async def test_it_is_still_its_owners_to_change_and_taking_it_back_ends_nothing(house: House) -> None:
    node = await house.join("lab", cpu=4)
    await house.launch.share(ADA, "lab")
    run = await eves(house)
    order = await house.order(node)
    await house.say(node, order, TaskState.RUNNING)
    for change in (house.launch.drain, house.launch.remove, house.launch.share):
        with pytest.raises(NotFoundError):
            await change(EVE, "lab")
    assert not (await house.launch.share(ADA, "lab", shared=False)).shared
    later = await eves(house, "later")
    assert await state(house, later) is RunState.QUEUED
    assert await state(house, run) is RunState.RUNNING
    await house.say(node, order, TaskState.SUCCEEDED, exit_code=0)
    assert await state(house, run) is RunState.SUCCEEDED
    kinds = [event.kind for event in await house.launch.events(ADA, subject=node.id)]
    assert [kind for kind in kinds if kind in {"node.shared", "node.private"}] == ["node.shared", "node.private"]
    assert not await house.launch.events(EVE, subject=node.id), "whose node it is has the trail"


@in_house
async def test_projects_see_what_others_hold_and_not_what_it_is(house: House) -> None:
    node = await house.join("lab", cpu=4)
    await house.join("secret", cpu=64)
    await house.launch.share(ADA, "lab")
    run = await eves(house, "top-secret", cpu=3)
    await house.order(node)
    (held,) = await house.launch.held(ADA)
    assert (held.node, held.cpu, held.project, held.run, held.role) == (node.id, 3.0, "", "", "")
    (own,) = await house.launch.held(EVE)
    assert own.run == run.id
    with pytest.raises(NotFoundError):
        await house.launch.run(ADA, run.id)
    with pytest.raises(NoCapacityError) as refused:
        await house.launch.need_place(EVE, Submission(name="big", plan=plan(role(needs=needs(cpu=32)))))
    assert refused.value.details["rejections"] == ["lab: needs 32 cpu; has 4"], "nothing is said of the private one"
    await house.submit(role(needs=needs(cpu=4)), name="mine")
    await house.settle()
    assert {one.node for one in await house.launch.held(EVE)} == {node.id}, "nor of what runs there"


@in_house
async def test_one_reaches_into_ones_own_task_on_anothers_node_and_nobody_else_does(house: House) -> None:
    node = await house.join("lab", cpu=4)
    await house.launch.share(ADA, "lab")
    run = await eves(house)
    order = await house.order(node)
    await house.say(node, order, TaskState.RUNNING)
    request = CallRequest(kind=CallKind.EXEC, argv=("ls",))
    call = await house.launch.relay.open(EVE, run.id, request)
    assert call.node == node.id
    with pytest.raises(NotFoundError):
        await house.launch.relay.open(ADA, run.id, request)
    with pytest.raises(NotFoundError):
        await house.launch.relay.open_node(EVE, "lab", request)


@in_house
async def test_a_shared_node_is_shared_by_weight(house: House) -> None:
    """With twice the weight the other project gets twice as much of it, though it came later."""
    node = await house.join("lab", cpu=6)
    await house.launch.share(ADA, "lab")
    await house.launch.quotas.change(replace(EVE, owner=True), QuotaRequest(weight=2.0))
    for number in range(6):
        await house.submit(role(needs=needs(cpu=1)), name=f"mine{number}")
    for number in range(6):
        await eves(house, f"hers{number}")
    await house.settle()
    held = await house.launch.held(ADA)
    assert all(task.node == node.id for task in held)
    assert (sum(task.project == "p" for task in held), sum(not task.project for task in held)) == (2, 4)


@in_house
async def test_a_share_is_of_what_a_project_can_use(house: House) -> None:
    """A large private node of the one makes its claim to what is shared smaller, not larger, for the other."""
    await house.join("own", cpu=90)
    await house.join("lab", cpu=10)
    await house.launch.share(ADA, "lab")
    mine = await house.submit(role(needs=needs(cpu=50)), name="mine")
    hers = await eves(house, cpu=1)
    await house.settle()
    standing = house.launch._scheduler._standing
    assert standing is not None
    assert (standing.held.share("p"), standing.held.share("other")) == (0.5, 0.1)
    assert (await house.run(mine)).state is await state(house, hers) is RunState.STARTING


@in_house
async def test_the_cost_is_the_users_not_the_owners(house: House) -> None:
    node = await house.join("lab", cpu=4, price=3600.0)
    await house.launch.share(ADA, "lab")
    run = await eves(house, cpu=4)
    order = await house.order(node)
    await house.clock.sleep(10)
    await house.say(node, order, TaskState.SUCCEEDED, exit_code=0)
    assert (await house.launch.run(EVE, run.id)).cost == pytest.approx(10.0, abs=1.0)
    assert (await house.launch.quotas.show(EVE)).spent > 9.0
    assert (await house.launch.quotas.show(ADA)).spent == 0.0
