"""One life of the world: jobs come, everything goes wrong for a while, then calm, and the end is looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import structlog.testing

from nexus.kernel.errors import NexusError
from nexus.kernel.identity import Principal
from nexus.kernel.units import Range
from nexus.launch.core.queue.views import QuotaRequest
from nexus.launch.model import (
    RUN_LIFE,
    TASK_LIFE,
    GpuNeed,
    Needs,
    OnExit,
    Port,
    Retry,
    RolePlan,
    Run,
    RunPlan,
    RunState,
    Submission,
)
from tests.simulation.invariants import need
from tests.simulation.loop import VirtualLoop, run_virtually
from tests.simulation.world import OTHER, USER, Laws, World

CHAOS_S = 40.0
CALM_S = 400.0  # by then every run must have ended, or say why it waits
RETRY = Retry(3, ("node_lost", "spot_reclaimed", "exit"), Range(1.0, 4.0))


def play(seed: int, laws: Laws | None = None) -> World:
    """Live through one seed. Raises BrokenError (an AssertionError) when an invariant does not hold."""

    async def main(loop: VirtualLoop) -> World:
        world = World(loop, seed, laws or Laws())
        loop.after_step = lambda: _raise_broken(world)
        await _live(world)
        return world

    with structlog.testing.capture_logs():
        return run_virtually(seed, main)


def _raise_broken(world: World) -> None:
    if world.records.broken is not None:
        raise world.records.broken


async def _live(world: World) -> None:
    dice = Random(world.dice.random())
    for _ in range(dice.randint(2, 3)):
        await world.add_machine(dice.choice([2.0, 2.0, 4.0]))
    await world.add_machine(2.0, OTHER.project)
    for who in (USER, OTHER):
        if dice.random() < 0.5:
            await world.launch.quotas.change(
                who, QuotaRequest(cpu=dice.choice([2.0, 3.0]), weight=dice.choice([1.0, 2.0]))
            )
    asking = asyncio.ensure_future(_ask(world, Random(dice.random())))
    until = world.loop.time() + CHAOS_S
    while world.loop.time() < until:
        await asyncio.sleep(dice.uniform(0.5, 6.0))
        dice.choice(FAULTS)(world, dice)
        for machine in world.machines:
            machine.check()
    _calm(world)
    await asking
    await _settle(world)
    _check_end(world)


# ---------------------------------------------------------------------- jobs


def _role(name: str, dice: Random, count: int = 1, cpu: float = 0.0, *, gpus: int = 0, **more: object) -> RolePlan:
    code = "0" if dice.random() < 0.8 else "3"
    argv = ("job", f"{dice.uniform(0.5, 10.0):.2f}", code, *(["keeps"] if dice.random() < 0.3 else []))
    ports = (Port("p"),) if dice.random() < 0.5 else ()
    needs = Needs(cpu=Range(cpu or None), gpu=GpuNeed(gpus))
    return RolePlan(name=name, count=count, needs=needs, argv=argv, ports=ports, **more)  # type: ignore[arg-type]


def _roles(dice: Random) -> tuple[RolePlan, ...]:
    kind = dice.randrange(6)
    if kind == 0:
        return (_role("worker", dice, 2, 1.0, gpus=1, gang=True),)
    if kind == 1:
        server = _role("server", dice, on_exit=OnExit.ANY, gang=True)
        return (server, _role("client", dice, 2, on_exit=OnExit.IGNORE, gang=True))
    if kind == 2:
        return (_role("replica", dice, 2, 1.0, on_exit=OnExit.RESTART),)
    if kind == 3:
        return (_role("sweep", dice, 4, 1.0, gpus=1),)
    return (_role("main", dice, 1, dice.choice([0.0, 1.0, 2.0])),)


def _submission(dice: Random, number: int, before: list[Run]) -> Submission:
    plan = RunPlan(
        kind="command",
        roles=_roles(dice),
        retry=RETRY if dice.random() < 0.6 else Retry(),
        timeout_s=20.0 if dice.random() < 0.2 else None,
        grace_s=2.0,
        priority=dice.choice([50, 50, 80]),
        preemptible=dice.random() < 0.4,
        after=(dice.choice(before).id,) if before and dice.random() < 0.15 else (),
    )
    return Submission(name=f"job{number}", plan=plan, key=f"key{number}")


async def _ask(world: World, dice: Random) -> None:
    """A person who submits, sometimes twice, stops and scales. What the server does not answer is asked again."""
    runs: list[Run] = []
    for number in range(dice.randint(3, 6)):
        await asyncio.sleep(dice.uniform(0.0, 8.0))
        who = dice.choice([USER, USER, OTHER])
        submission = _submission(dice, number, [run for run in runs if run.project == who.project])

        def submit(who: Principal = who, submission: Submission = submission) -> Awaitable[Run]:
            return world.launch.submit(who, submission)

        run, again = await _surely(submit), await _surely(submit)
        need(run.id == again.id, "the same key gave two runs")
        runs.append(run)
        await _meddle(world, dice, dice.choice(runs))
    for run in runs:
        if any(role.on_exit is OnExit.RESTART for role in run.plan.roles):
            await asyncio.sleep(dice.uniform(0.0, 20.0))
            await _stop(world, run)


async def _meddle(world: World, dice: Random, run: Run) -> None:
    if dice.random() < 0.2:
        await asyncio.sleep(dice.uniform(0.0, 10.0))
        await _stop(world, run)
    elif run.plan.roles[0].on_exit is OnExit.RESTART and dice.random() < 0.5:
        try:
            await world.launch.scale(_owner(run), run.id, run.plan.roles[0].name, dice.randint(0, 3))
        except NexusError:
            return  # the server is down, or the run over


async def _stop(world: World, run: Run) -> None:
    stopped = await _surely(lambda: world.launch.stop(_owner(run), run.id))
    if stopped.state is not RunState.SUCCEEDED:
        world.records.stopped.add(run.id)


def _owner(run: Run) -> Principal:
    return USER if run.project == USER.project else OTHER


async def _surely(ask: Callable[[], object]) -> Run:
    """Ask until there is an answer."""
    while True:
        try:
            answer = await ask()  # type: ignore[misc]
        except NexusError:
            await asyncio.sleep(0.5)
        else:
            assert isinstance(answer, Run)
            return answer


# ---------------------------------------------------------------------- faults


def _storm(world: World, dice: Random) -> None:
    world.weather.lose = dice.choice([0.0, 0.1, 0.3])
    world.weather.double = dice.choice([0.0, 0.2])
    world.weather.delay_s = dice.choice([0.0, 0.2, 3.0])


def _part(world: World, dice: Random) -> None:
    line = world.lines[dice.choice(world.machines).name]
    line.cut = True
    world.loop.call_later(dice.uniform(1.0, 30.0), lambda: setattr(line, "cut", False))


def _kill_agent(world: World, dice: Random) -> None:
    machine = dice.choice(world.machines)
    machine.kill_agent()
    world.loop.call_later(dice.uniform(0.1, 20.0), lambda: _start_agent(world, machine.name))


def _start_agent(world: World, name: str) -> None:
    machine = next(one for one in world.machines if one.name == name)
    machine.kill_agent()
    machine.start_agent(world.lines[name])


def _wipe(world: World, dice: Random) -> None:
    machine = dice.choice(world.machines)
    machine.wipe()
    world.loop.call_later(dice.uniform(0.1, 5.0), lambda: _start_agent(world, machine.name))


def _crash_server(world: World, dice: Random) -> None:
    world.crash_server()
    world.loop.call_later(dice.uniform(0.1, 10.0), world.start_server)


def _herd(world: World, dice: Random) -> None:
    """Every agent dies, and all come back in the same moment."""
    at = dice.uniform(0.1, 20.0)
    for machine in world.machines:
        machine.kill_agent()
        world.loop.call_later(at, _start_agent, world, machine.name)


def _flap(world: World, dice: Random) -> None:
    """A network that comes and goes."""
    line = world.lines[dice.choice(world.machines).name]
    for number in range(dice.randint(2, 6)):
        world.loop.call_later(number * dice.uniform(1.0, 4.0), setattr, line, "cut", number % 2 == 0)
    world.loop.call_later(24.0, setattr, line, "cut", False)


def _jump(world: World, dice: Random) -> None:
    world.jump(dice.choice([-3600.0, 3600.0]))


def _second_server(world: World, dice: Random) -> None:
    world.second_server(dice.uniform(1.0, world.laws.policy.lease_s - 2.0))


FAULTS: tuple[Callable[[World, Random], None], ...] = (
    *(_storm, _storm, _part, _part, _kill_agent, _wipe, _crash_server),
    *(_herd, _flap, _jump, _second_server),
)


def _calm(world: World) -> None:
    world.weather.lose = world.weather.double = world.weather.delay_s = 0.0
    for line in world.lines.values():
        line.cut = False
    world.start_server()


# ---------------------------------------------------------------------- the end


async def _settle(world: World) -> None:
    deadline = world.loop.time() + CALM_S
    while world.loop.time() < deadline:
        if all(RUN_LIFE.is_final(run.state) for run in world.records.runs.values()):
            break
        await asyncio.sleep(2.0)
    for machine in world.machines:
        machine.check()


def _check_end(world: World) -> None:
    records = world.records
    for run in records.runs.values():
        need(
            RUN_LIFE.is_final(run.state), f"run {run.id} ({run.name}) is still {run.state}: {run.reason or 'no reason'}"
        )
        need(run.id not in records.stopped or run.state is not RunState.SUCCEEDED, f"{run.id} succeeded after its stop")
    live = [task.id for task in records.tasks.values() if not TASK_LIFE.is_final(task.state)]
    need(not live, f"every run is over, and these tasks live: {live}")
    for event in records._events:
        need(
            event.subject in records.runs or event.subject.startswith(("node_", "quota_")),
            f"an event of nobody: {event}",
        )
