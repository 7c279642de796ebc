"""The relay alone: who may call whom, what becomes of bytes, and every way in which a call ends."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest

from nexus.kernel.errors import (
    ConflictError,
    ForbiddenError,
    LimitError,
    NexusError,
    NotFoundError,
    UnavailableError,
    UsageError,
)
from nexus.kernel.identity import Principal, PrincipalKind, Role
from nexus.launch.calls import (
    SILENCE_S,
    Call,
    CallKind,
    CallRequest,
    Part,
    exit_message,
    message,
    opened,
    read_exit,
    read_failure,
)
from nexus.launch.core.policy import Policy
from nexus.launch.model import Node, Port, Run, TaskState
from nexus.launch.protocol import TaskOrder
from tests.launch.build import role
from tests.launch.relay.streams import Wire, pair
from tests.launch.service.house import ADA, EVE, House, in_house

BOB = Principal(PrincipalKind.USER, "bob", "p", Role.MEMBER)
VIEWER = Principal(PrincipalKind.USER, "vic", "p", Role.VIEWER)
EXEC = CallRequest(kind=CallKind.EXEC, argv=("ls", "--password=hunter2"))


def port(wanted: str) -> CallRequest:
    return CallRequest(kind=CallKind.PORT, port=wanted)


async def running(house: House, **changes: Any) -> tuple[Node, Run, TaskOrder]:
    """A run with one task that runs."""
    node = await house.join(**changes)
    run = await house.submit(role(ports=(Port("http"),)))
    order = await house.order(node)
    await house.say(node, order, TaskState.RUNNING, ports={"http": 8123})
    return node, run, order


class Talk:
    """A call with both sides there: `here` is the caller's end, `there` the agent's."""

    def __init__(self, house: House, node: Node, call: Call, who: Principal = BOB) -> None:
        self.here, near = pair()
        self.there, far = pair()
        self.near, self.far = near, far
        relay = house.launch.relay
        self.sides = [_started(relay.attach(who, call.id, near)), _started(relay.answer(node.id, call.id, far))]

    async def ended(self) -> None:
        await asyncio.gather(*self.sides)


def _started(what: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.ensure_future(what)


async def heard(wire: Wire) -> tuple[Part, bytes] | None:
    """The next that is no beat."""
    while (said := await wire.receive()) is not None:
        part, data = opened(said)
        if part is not Part.BEAT:
            return part, data
    return None


async def failure(wire: Wire) -> NexusError:
    said = await heard(wire)
    assert said is not None
    assert said[0] is Part.FAILED
    return read_failure(said[1])


@in_house
async def test_a_call_from_its_wish_to_its_exit_code(house: House) -> None:
    node, run, order = await running(house)
    waiting = asyncio.ensure_future(house.sync(node, since=(await house.sync(node)).version, wait_s=5.0))
    await asyncio.sleep(0.1)
    began = house.clock.monotonic()
    call = await house.launch.relay.open(BOB, run.id, EXEC)
    (told,) = (await waiting).calls
    assert house.clock.monotonic() == began, "the agent was told at once"
    assert (told.id, told.task, told.epoch, told.argv, told.kind) == (
        call.id,
        order.task,
        order.epoch,
        EXEC.argv,
        CallKind.EXEC,
    )
    talk = Talk(house, node, call)
    await talk.here.send(message(Part.IN, b"question"))
    assert await heard(talk.there) == (Part.IN, b"question")
    assert (await house.sync(node)).calls == (), "what was dialled is not told again"
    await talk.there.send(message(Part.OUT, b"answer"))
    await talk.there.send(exit_message(7))
    await talk.there.close()
    assert await heard(talk.here) == (Part.OUT, b"answer")
    said = await heard(talk.here)
    assert said is not None
    assert (said[0], read_exit(said[1])) == (Part.EXIT, 7)
    assert await heard(talk.here) is None
    await talk.ended()


@in_house
async def test_who_reached_what_is_told_without_its_secrets(house: House) -> None:
    _, run, order = await running(house)
    relay = house.launch.relay
    await relay.open(BOB, run.id, EXEC)
    for _ in range(3):
        await relay.open(BOB, run.id, port("http"))
    events = [
        event for event in await house.launch.events(ADA, subject=run.id) if event.kind in {"run.exec", "run.port"}
    ]
    assert [(event.kind, event.actor) for event in events] == [("run.exec", "bob"), ("run.port", "bob")]
    assert events[0].data["program"] == "ls"
    assert events[0].data["task"] == order.task
    assert events[1].data["port"] == 8123
    assert "hunter2" not in str(events)


@in_house
async def test_who_may_not(house: House) -> None:
    node, run, _ = await running(house)
    relay = house.launch.relay
    with pytest.raises(NotFoundError):
        await relay.open(EVE, run.id, EXEC)
    with pytest.raises(ForbiddenError):
        await relay.open(VIEWER, run.id, EXEC)
    with pytest.raises(ForbiddenError):
        await relay.open_node(BOB, node.name, EXEC)
    with pytest.raises(NotFoundError):
        await relay.open_node(EVE, node.name, EXEC)
    with pytest.raises(ForbiddenError, match="has not allowed a shell"):
        await relay.open_node(ADA, node.name, EXEC)


@in_house
async def test_a_run_reaches_its_own_ports_and_nothing_else(house: House) -> None:
    _, run, _ = await running(house)
    relay = house.launch.relay
    own = Principal(PrincipalKind.RUN, run.id, "p", Role.VIEWER)
    stranger = Principal(PrincipalKind.RUN, "run_other", "p", Role.VIEWER)
    assert (await relay.open(own, run.id, port("http"))).port == 8123
    with pytest.raises(ForbiddenError):
        await relay.open(own, run.id, EXEC)
    with pytest.raises(ForbiddenError):
        await relay.open(stranger, run.id, port("http"))


@in_house
async def test_a_shell_on_a_node_whose_owner_allows_it(house: House) -> None:
    node = await house.join(shell=True)
    call = await house.launch.relay.open_node(ADA, node.name, EXEC)
    (told,) = (await house.sync(node, shell=True)).calls
    assert (told.id, told.task) == (call.id, "")
    events = await house.launch.events(ADA, subject=node.id)
    assert [event.data["program"] for event in events if event.kind == "node.exec"] == ["ls"]


@in_house
async def test_a_call_belongs_to_who_asked_and_works_once(house: House) -> None:
    node, run, _ = await running(house)
    relay = house.launch.relay
    call = await relay.open(BOB, run.id, EXEC)
    near, _ = pair()
    for who in (ADA, EVE, replace(BOB, project="other")):
        with pytest.raises(NotFoundError):
            await relay.attach(who, call.id, near)
    with pytest.raises(NotFoundError):
        await relay.answer("node_other", call.id, near)
    talk = Talk(house, node, call)
    await talk.here.receive()
    with pytest.raises(NotFoundError):
        await relay.attach(BOB, call.id, near)
    with pytest.raises(NotFoundError):
        await relay.answer(node.id, call.id, near)
    await talk.here.close()
    await talk.ended()


@in_house
async def test_wishes_that_nobody_can_fulfil(house: House) -> None:
    _, run, _ = await running(house)
    relay = house.launch.relay
    wrong: list[tuple[type[NexusError], CallRequest]] = [
        (UsageError, CallRequest(kind=CallKind.EXEC)),
        (UsageError, CallRequest(kind=CallKind.EXEC, argv=("a\0b",))),
        (UsageError, CallRequest(kind=CallKind.EXEC, argv=("x" * 200_000,))),
        (UsageError, port("")),
        (UsageError, port("70000")),
        (UsageError, port("0")),
        (NotFoundError, port("grpc")),
        (NotFoundError, replace(EXEC, role="worker")),
        (NotFoundError, replace(EXEC, index=4)),
    ]
    for error, request in wrong:
        with pytest.raises(error):
            await relay.open(BOB, run.id, request)
    with pytest.raises(NotFoundError):
        await relay.open(BOB, "no-such-run", EXEC)
    assert relay.wanted(run.id) == ()


@in_house
async def test_only_a_running_task_is_reached(house: House) -> None:
    node = await house.join()
    run = await house.submit(role())
    relay = house.launch.relay
    with pytest.raises(ConflictError, match="no task of it runs yet"):
        await relay.open(BOB, run.id, EXEC)
    order = await house.order(node)
    await house.say(node, order, TaskState.PREPARING, detail="installing")
    with pytest.raises(ConflictError, match=r"is preparing \(installing\)"):
        await relay.open(BOB, run.id, EXEC)
    await house.say(node, order, TaskState.SUCCEEDED, exit_code=0)
    with pytest.raises(ConflictError, match="is over: succeeded") as caught:
        await relay.open(BOB, run.id, EXEC)
    assert f"nexus logs {run.id}" in caught.value.hint


@in_house
async def test_an_agent_that_does_not_answer(house: House) -> None:
    node, run, _ = await running(house)
    relay = house.launch.relay
    call = await relay.open(BOB, run.id, EXEC)
    here, near = pair()
    began = house.clock.monotonic()
    side = _started(relay.attach(BOB, call.id, near))
    error = await failure(here)
    assert isinstance(error, UnavailableError)
    assert "did not answer within 10 s" in error.message
    assert house.clock.monotonic() - began == pytest.approx(house.policy.call_wait_s)
    await side
    assert relay.wanted(node.id) == ()
    with pytest.raises(NotFoundError):
        await relay.answer(node.id, call.id, near)


@in_house
async def test_a_silent_node_is_not_waited_for(house: House) -> None:
    _, run, _ = await running(house)
    await asyncio.sleep(house.policy.unreachable_s + 1)
    await house.settle()
    with pytest.raises(UnavailableError, match="is unreachable"):
        await house.launch.relay.open(BOB, run.id, EXEC)


@in_house
async def test_a_caller_who_never_comes(house: House) -> None:
    node, run, _ = await running(house)
    relay = house.launch.relay
    call = await relay.open(BOB, run.id, EXEC)
    there, far = pair()
    began = house.clock.monotonic()
    await relay.answer(node.id, call.id, far)
    assert house.clock.monotonic() - began <= 2 * house.policy.call_wait_s
    assert relay.wanted(node.id) == ()
    assert there.sent == 0


@in_house
async def test_either_side_hangs_up(house: House) -> None:
    node, run, _ = await running(house)
    relay = house.launch.relay
    first = Talk(house, node, await relay.open(BOB, run.id, EXEC))
    await first.here.send(message(Part.IN, b"x"))
    await first.here.close()
    assert await heard(first.there) == (Part.IN, b"x")
    assert await heard(first.there) is None, "the agent hears of it"
    await first.ended()
    second = Talk(house, node, await relay.open(BOB, run.id, EXEC))
    await second.there.send(message(Part.OUT, b"half an ans"))
    await second.there.close()  # no exit code: it was killed
    assert await heard(second.here) == (Part.OUT, b"half an ans")
    error = await failure(second.here)
    assert isinstance(error, UnavailableError)
    assert "the node's agent ended" in error.message
    await second.ended()


@in_house
async def test_what_the_process_said_last_arrives_though_it_reads_no_more(house: House) -> None:
    """`head -1 < large`: the caller still sends when the exit code comes."""
    node, run, _ = await running(house)
    talk = Talk(house, node, await house.launch.relay.open(BOB, run.id, EXEC))
    await talk.there.receive()
    talk.far.is_cut = True  # what is sent that way fails from now on
    await talk.there.send(message(Part.OUT, b"first line"))
    await talk.there.send(exit_message(0))
    await talk.here.send(message(Part.IN, b"much more"))
    await talk.there.close()
    assert await heard(talk.here) == (Part.OUT, b"first line")
    said = await heard(talk.here)
    assert said is not None
    assert said[0] is Part.EXIT
    await talk.ended()


@in_house
async def test_a_slow_reader_holds_up_its_writer(house: House) -> None:
    node, run, _ = await running(house)
    talk = Talk(house, node, await house.launch.relay.open(BOB, run.id, EXEC))
    sent = 0

    async def write() -> None:
        nonlocal sent
        for number in range(100):
            await talk.there.send(message(Part.OUT, bytes((number,))))
            sent += 1
        await talk.there.send(exit_message(0))

    writing = asyncio.ensure_future(write())
    await asyncio.sleep(1.0)
    assert sent < 15, "the relay keeps no more than the connections do"
    for number in range(100):
        assert await heard(talk.here) == (Part.OUT, bytes((number,)))
    await writing
    await talk.here.close()
    await talk.ended()


@in_house
async def test_a_reader_may_be_slow_for_long_but_not_dead(house: House) -> None:
    node, run, _ = await running(house)
    talk = Talk(house, node, await house.launch.relay.open(BOB, run.id, EXEC))

    async def beat(wire: Wire, times: int) -> None:
        for _ in range(times):
            await asyncio.sleep(SILENCE_S / 3)
            await wire.send(message(Part.BEAT))

    async def write() -> None:
        for _ in range(20):
            await talk.there.send(message(Part.OUT, b"x"))

    async def read_beats() -> None:
        while await talk.there.receive() is not None:
            pass

    others = [asyncio.ensure_future(one) for one in (write(), read_beats())]
    await beat(talk.here, 12)  # it reads nothing, but it lives
    assert not any(side.done() for side in talk.sides)
    began = house.clock.monotonic()
    while await heard(talk.here) is not None:  # it reads again; now neither says anything
        pass
    assert house.clock.monotonic() - began <= SILENCE_S + 1
    await talk.ended()
    for one in others:
        one.cancel()


def test_a_call_over_which_nothing_passes_is_ended() -> None:
    from tests.simulation.loop import VirtualLoop, run_virtually

    async def main(loop: VirtualLoop) -> None:
        house = House(loop, Policy(call_idle_s=100.0))
        node, run, _ = await running(house)
        talk = Talk(house, node, await house.launch.relay.open(BOB, run.id, EXEC))

        async def beat(wire: Wire) -> None:
            while True:
                await asyncio.sleep(SILENCE_S / 3)
                await wire.send(message(Part.BEAT))

        beating = [asyncio.ensure_future(beat(wire)) for wire in (talk.here, talk.there)]
        swallowing = asyncio.ensure_future(heard(talk.there))
        error = await failure(talk.here)
        assert "nothing was said" in error.message
        await talk.ended()
        for one in (*beating, swallowing):
            one.cancel()

    run_virtually(1, main)


def test_a_project_has_so_many_calls_at_once() -> None:
    from tests.simulation.loop import VirtualLoop, run_virtually

    async def main(loop: VirtualLoop) -> None:
        house = House(loop, Policy(calls_at_once=3))
        _, run, _ = await running(house)
        relay = house.launch.relay
        for _ in range(3):
            await relay.open(BOB, run.id, EXEC)
        with pytest.raises(LimitError, match="3 calls at once"):
            await relay.open(BOB, run.id, EXEC)
        await asyncio.sleep(2 * house.policy.call_wait_s + 1)  # nobody came: they are forgotten
        await relay.open(BOB, run.id, EXEC)

    run_virtually(1, main)


@in_house
async def test_a_stream_to_a_port_for_other_parts_of_the_server(house: House) -> None:
    node, _, order = await running(house)
    relay = house.launch.relay
    asked = asyncio.ensure_future(relay.connect(order.task, "http"))
    await asyncio.sleep(0.1)
    (told,) = (await house.sync(node)).calls
    assert (told.port, told.kind) == (8123, CallKind.PORT)
    there, far = pair()
    answering = _started(relay.answer(node.id, told.id, far))
    stream = await asked
    await stream.send(message(Part.IN, b"GET /"))
    assert await heard(there) == (Part.IN, b"GET /")
    await there.send(message(Part.OUT, b"200"))
    assert await stream.receive() == message(Part.OUT, b"200")
    await stream.close()
    await answering
    assert await heard(there) is None
    with pytest.raises(NotFoundError):
        await relay.connect("task_none", "http")
    lost = asyncio.ensure_future(relay.connect(order.task, "http"))
    with pytest.raises(UnavailableError):
        await lost
    assert relay.wanted(node.id) == ()
