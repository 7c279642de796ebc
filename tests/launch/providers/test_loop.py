"""The loop around machines with a fake provider on virtual time: slow, failing, losing machines; servers are killed."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from nexus.infra.hints import Hints
from nexus.infra.records.memory import MemoryRecords
from nexus.kernel.errors import DeniedError, NexusError, NotFoundError
from nexus.kernel.identity import Principal, PrincipalKind, Role
from nexus.launch.core.policy import Policy
from nexus.launch.model import (
    MACHINE_LIFE,
    MACHINES,
    NODES,
    RUN_LIFE,
    RUNS,
    Machine,
    MachineState,
    RolePlan,
    Run,
    RunState,
    Submission,
    TaskState,
)
from nexus.launch.ports import Machinery
from nexus.launch.protocol import Report, TaskReport
from nexus.launch.service import Launch
from tests.launch.build import info, needs, plan, role
from tests.launch.providers.fake import Cloud, FakeProvider, Tokens, offer
from tests.simulation.loop import VirtualClock, VirtualLoop, run_virtually

ADA = Principal(PrincipalKind.USER, "ada", "p", Role.ADMIN)
POLICY = Policy(heartbeat_s=2.0, lease_s=12.0, margin_s=2.0, log_patience_s=0.0, start_s=60.0, block_s=5.0, look_s=3.0)


class World:
    """A server that can be killed, a cloud, and an agent on each machine that runs."""

    def __init__(self, loop: VirtualLoop, cloud: Cloud) -> None:
        self.clock = VirtualClock(loop)
        self.records = MemoryRecords()
        self.cloud = cloud
        self.tokens = Tokens()
        self.dice = Random(3)
        self.waited = 0  # runs at the last check
        self.seconds = 5.0  # that a task takes
        self.loops: list[asyncio.Task[None]] = []
        self.agents: dict[str, asyncio.Task[None]] = {}
        self.launch = self.start_server()

    def start_server(self) -> Launch:
        """As after a restart: what the last one knew in memory is gone."""
        self.launch = Launch(
            self.records,
            self.clock,
            self.dice.randbytes,
            hints=Hints(),
            tracker=self,
            mint=self._mint,
            machinery=Machinery(providers=FakeProvider(self.cloud), tokens=self.tokens, url="http://server"),
            policy=POLICY,
        )
        self.loops = [
            asyncio.ensure_future(self.launch.run_forever()),
            asyncio.ensure_future(self.launch.provision_forever()),
        ]
        return self.launch

    async def kill_server(self) -> None:
        for loop in self.loops:
            loop.cancel()
        await asyncio.gather(*self.loops, return_exceptions=True)

    async def log_end(self, task_id: str) -> int:
        return 0

    async def resolve(self, project: str, reference: str) -> str:
        return "0" * 64

    async def _mint(self, run: Run, task: str) -> str:
        return run.id

    async def tend(self) -> None:
        """Agents live on machines that run, and die with them."""
        while True:
            for machine in list(self.cloud.running):
                if machine not in self.agents:
                    self.agents[machine] = asyncio.ensure_future(self._agent(machine))
            await asyncio.sleep(0.1)

    async def _agent(self, machine: str) -> None:
        """Joins, and runs what it is told until its machine is gone or its node was removed."""
        ticket = self.cloud.running[machine]
        about = info(ticket.name, boot=machine, cpu=4)
        about = type(about)(**{**{f: getattr(about, f) for f in about.__slots__}, "labels": ticket.labels})
        node = await self.launch.join(about, "p")
        began: dict[str, tuple[int, float]] = {}  # task -> its lease's epoch, and when it began
        while machine in self.cloud.running:
            now = self.clock.monotonic()
            reports = tuple(
                TaskReport(
                    task=task,
                    epoch=epoch,
                    state=TaskState.SUCCEEDED if now - at > self.seconds else TaskState.RUNNING,
                )
                for task, (epoch, at) in began.items()
            )
            try:
                desired = await self.launch.sync(node.id, Report(info=about, tasks=reports), 0, 0.0)
            except NotFoundError:
                return
            except NexusError:
                await asyncio.sleep(1.0)
                continue
            for order in desired.orders:
                began.setdefault(order.task, (order.epoch, now))
            for task in desired.acknowledged:
                began.pop(task, None)
            await asyncio.sleep(0.5)

    async def submit(self, *roles: RolePlan, name: str = "x", **more: Any) -> Run:
        return await self.launch.submit(ADA, Submission(name=name, plan=plan(*roles, **more)))

    async def run(self, run: Run) -> Run:
        return await self.launch.run(ADA, run.id)

    async def machines(self) -> list[Machine]:
        return await self.records.find(MACHINES, limit=10_000)

    async def until(self, what: Any, within_s: float = 600.0) -> None:
        for _ in range(int(within_s / 0.5)):
            await self.check()
            if await what():
                return
            await asyncio.sleep(0.5)
        raise AssertionError(f"not within {within_s} s: {[(m.state, m.reason) for m in await self.machines()]}")

    async def check(self) -> None:
        """No machine runs that the server does not know, and no need has two."""
        known = {machine.id: machine for machine in await self.machines()}
        for machine in self.cloud.running:
            assert machine in known
            assert not MACHINE_LIFE.is_final(known[machine].state), known[machine]
        coming = [one for one in known.values() if one.state in {MachineState.WANTED, MachineState.STARTING}]
        waiting = [run for run in await self.records.find(RUNS) if not RUN_LIFE.is_final(run.state)]
        assert len(coming) <= max(len(waiting), self.waited)  # each needs one machine; one that is over needed its own
        self.waited = len(waiting)

    async def is_over(self, *runs: Run) -> bool:
        return all([RUN_LIFE.is_final((await self.run(run)).state) for run in runs])

    async def is_empty(self) -> bool:
        """Everything is ended and forgotten."""
        live = [one for one in await self.machines() if not MACHINE_LIFE.is_final(one.state)]
        return not live and not self.cloud.running and not await self.records.find(NODES)


def simulate(seed: int, cloud: Cloud, story: Any) -> None:
    async def main(loop: VirtualLoop) -> None:
        world = World(loop, cloud)
        tending = asyncio.ensure_future(world.tend())
        try:
            await story(world)
        finally:
            tending.cancel()
            for agent in world.agents.values():
                agent.cancel()
            await world.kill_server()

    run_virtually(seed, main)


WHOLE = role(needs=needs(cpu=4))


def test_a_run_without_a_node_gets_a_machine_which_goes_when_it_is_idle() -> None:
    async def story(world: World) -> None:
        await world.launch.fleets.add(ADA, "lab", "fake", {}, idle_s=20.0)
        run = await world.submit(WHOLE)
        reasons = set()

        async def over() -> bool:
            reasons.add((await world.run(run)).reason)
            return await world.is_over(run)

        await world.until(over)
        assert (await world.run(run)).state is RunState.SUCCEEDED
        assert "starting fake:lab/h1" in reasons
        again = await world.submit(WHOLE)  # while the machine is warm
        await world.until(lambda: world.is_over(again))
        assert len(world.cloud.begun) == 1
        await world.until(world.is_empty)
        assert len(world.tokens.revoked) == 1
        kinds = [event.kind for event in await world.records.events(limit=10_000) if event.kind.startswith("machine.")]
        kinds = [kind for kind in kinds if kind != "machine.starting"]  # its agent may join before the call returns
        assert kinds == ["machine.wanted", "machine.up", "machine.stopping", "machine.gone"]

    simulate(1, Cloud(hosts=[offer("h1"), offer("h2", 1.0)], slow_s=2.0), story)


def test_what_cannot_start_here_starts_elsewhere_and_the_reason_is_told() -> None:
    async def story(world: World) -> None:
        await world.launch.fleets.add(ADA, "lab", "fake", {})
        run = await world.submit(WHOLE)
        await world.until(lambda: world.is_over(run))
        assert (await world.run(run)).state is RunState.SUCCEEDED
        failed = [one for one in await world.machines() if one.state is MachineState.FAILED]
        assert [(one.offer.machine, one.reason) for one in failed] == [("cheap", "wrong key (look at lab)")]

    broken = {"cheap": DeniedError("wrong key", hint="look at lab")}
    simulate(2, Cloud(hosts=[offer("cheap"), offer("dear", 1.0)], broken=dict(broken)), story)


def test_nothing_starts_and_the_run_says_why() -> None:
    async def story(world: World) -> None:
        await world.launch.fleets.add(ADA, "lab", "fake", {})
        run = await world.submit(WHOLE)

        async def told() -> bool:
            return "fake:lab/h1: wrong key" in (await world.run(run)).reason

        await world.until(told)

    simulate(3, Cloud(hosts=[offer("h1")], broken={"h1": DeniedError("wrong key")}), story)


def test_a_lost_machine_costs_its_runs_a_retry_and_not_the_length_of_a_lease() -> None:
    async def story(world: World) -> None:
        world.seconds = 10.0
        await world.launch.fleets.add(ADA, "lab", "fake", {})
        run = await world.submit(WHOLE, retry=retry(1))

        async def running() -> bool:
            return (await world.run(run)).state is RunState.RUNNING

        await world.until(running)
        (lost,) = list(world.cloud.running)
        world.cloud.lose(lost)
        at = world.clock.monotonic()
        await world.until(lambda: world.is_over(run))
        assert (await world.run(run)).state is RunState.SUCCEEDED
        assert world.clock.monotonic() - at < POLICY.look_s + world.seconds + 15
        assert len(world.cloud.begun) == 2

    simulate(4, Cloud(hosts=[offer("h1"), offer("h2", 1.0)]), story)


def retry(most: int) -> Any:
    from nexus.launch.model import Retry

    return Retry(max=most)


@pytest.mark.parametrize("seed", range(12))
def test_killed_servers_failing_and_slow_calls_and_lost_machines_leak_nothing(seed: int) -> None:
    dice = Random(seed)

    async def story(world: World) -> None:
        await world.launch.fleets.add(ADA, "lab", "fake", {}, idle_s=15.0)
        runs = [await world.submit(WHOLE, name=f"r{number}", retry=retry(20)) for number in range(5)]

        async def trouble() -> None:
            for _ in range(25):
                await asyncio.sleep(dice.uniform(0.0, 4.0))
                if dice.random() < 0.6:
                    await world.kill_server()
                    await asyncio.sleep(dice.choice([0.0, 0.0, 2.0]))
                    world.start_server()
                elif world.cloud.running:
                    world.cloud.lose(dice.choice(sorted(world.cloud.running)))

        troubling = asyncio.ensure_future(trouble())
        await world.until(lambda: world.is_over(*runs), within_s=3000)
        await troubling
        assert {(await world.run(run)).state for run in runs} == {RunState.SUCCEEDED}
        await world.until(world.is_empty)

    cloud = Cloud(dice=dice, hosts=[offer(f"h{number}", number / 10) for number in range(4)], slow_s=3.0, failure=0.15)
    simulate(seed, cloud, story)
