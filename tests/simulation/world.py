"""One server, some machines, a network, and a seed that decides what goes wrong when."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from nexus.infra.hints import Hints
from nexus.kernel.errors import ConflictError, NexusError, UnavailableError
from nexus.kernel.identity import Principal, PrincipalKind, Role
from nexus.launch.core.policy import Policy
from nexus.launch.model import Run, Task
from nexus.launch.ports import log_topic
from nexus.launch.protocol import ArtifactReport
from nexus.launch.service import Launch
from nexus.launch.service.context import Rules
from tests.simulation.invariants import Floor, WatchedRecords, check_log
from tests.simulation.loop import VirtualClock, VirtualLoop
from tests.simulation.machine import Machine
from tests.simulation.network import Line, Weather

T = TypeVar("T")
USER = Principal(PrincipalKind.USER, "ada", "p", Role.ADMIN, owner=True)
OTHER = Principal(PrincipalKind.USER, "eve", "q", Role.ADMIN, owner=True)
POLICY = Policy(
    heartbeat_s=2.0,
    lease_s=12.0,
    margin_s=2.0,
    log_patience_s=1e9,
    restart_s=1.0,
    restart_max_s=8.0,
    reserve_after_s=4.0,
    reserve_again_s=5.0,
    rebuild_s=20.0,
)


@dataclass(frozen=True, kw_only=True)
class Laws:
    """By what the world lives; mutants break one."""

    rules: Rules = Rules()
    policy: Policy = POLICY
    log_is_always_whole: bool = False


class Server:
    """A running server: the real Launch on records that survive it."""

    def __init__(self, world: World, clock: VirtualClock | None = None) -> None:
        self._world = world
        self.hints = Hints()
        skew_s = world.skew_s + world.dice.uniform(0.0, 1.0)
        self.clock = clock or VirtualClock(world.loop, skew_s=skew_s)
        self.launch = Launch(
            world.records,
            self.clock,
            world.dice.randbytes,
            hints=self.hints,
            tracker=self,
            mint=self._mint,
            policy=world.laws.policy,
            rules=world.laws.rules,
        )
        self.loops = {asyncio.ensure_future(self.launch.run_forever())}

    def crash(self) -> None:
        """`kill -9`: every request under way is cut off."""
        for one in self.loops:
            one.cancel()

    async def log_end(self, task_id: str) -> int:
        return 10**9 if self._world.laws.log_is_always_whole else len(self._world.logs[task_id])

    async def resolve(self, project: str, reference: str) -> str:
        return "0" * 64

    async def _mint(self, run: Run, task: str) -> str:
        return run.id

    async def take_log(self, node: str, task: str, epoch: int, offset: int, data: bytes) -> int:
        """As the track slice does: the lease is checked, doubles are skipped, gaps refused."""
        await self.launch.holds(node, task, epoch)
        log = self._world.logs[task]
        if offset > len(log):
            raise ConflictError("bytes are missing", expected=len(log))
        log += data[len(log) - offset :]
        self.hints.hint(log_topic(task))
        return len(log)

    async def take_artifact(self, node: str, task: str, epoch: int, report: ArtifactReport) -> None:
        holder = await self.launch.holds(node, task, epoch)
        self._world.artifacts[holder.run].append(task)


class World:
    """Everything that lives in one simulation."""

    def __init__(self, loop: VirtualLoop, seed: int, laws: Laws) -> None:
        self.loop = loop
        self.laws = laws
        self.dice = Random(seed)
        self.skew_s = 0.0  # of the servers' wall clock
        self.records = WatchedRecords()
        self.floor = Floor(self.records)
        self.weather = Weather()
        self.logs: defaultdict[str, bytearray] = defaultdict(bytearray)
        self.artifacts: defaultdict[str, list[str]] = defaultdict(list)
        self.records.on_end = self._on_end
        self.server: Server | None = Server(self)
        self.machines: list[Machine] = []
        self.lines: dict[str, Line] = {}

    async def add_machine(self, cpu: float, project: str = "p") -> Machine:
        """A machine joins and its agent starts."""
        dice = Random(self.dice.random())
        machine = Machine(self.loop, f"m{len(self.machines)}", cpu, dice, self.floor.began)
        self.machines.append(machine)
        node = await self.launch.join(machine.info(), project)
        machine.node = node.id
        self.lines[machine.name] = Line(self, self.loop, node.id, dice)
        machine.start_agent(self.lines[machine.name])
        return machine

    def _on_end(self, task: Task) -> None:
        machine = next(machine for machine in self.machines if machine.node == task.node)
        check_log(task, machine, bytes(self.logs[task.id]))

    @property
    def launch(self) -> Launch:
        """The server's; it must be up."""
        if self.server is None:
            raise UnavailableError("the server is down")
        return self.server.launch

    async def serve(self, handle: Callable[[Server], Awaitable[T]]) -> T:
        """A request at the server, which dies with it."""
        server = self.server
        if server is None:
            raise UnavailableError("the server is down")
        handling: asyncio.Future[T] = asyncio.ensure_future(handle(server))
        server.loops.add(handling)  # type: ignore[arg-type]
        try:
            await asyncio.wait([handling])
        except asyncio.CancelledError:
            handling.cancel()
            raise
        finally:
            server.loops.discard(handling)
        if handling.cancelled():
            raise UnavailableError("the server died")
        return handling.result()

    def serve_late(self, handle: Callable[[Server], Awaitable[Any]]) -> None:
        """A request that arrives a second time; nobody waits for its answer."""

        async def again() -> None:
            try:
                await self.serve(handle)
            except NexusError:
                return

        asyncio.ensure_future(again()).add_done_callback(lambda done: done.cancelled() or done.exception())

    def crash_server(self) -> None:
        if self.server is not None:
            self.server.crash()
            self.server = None

    def start_server(self) -> None:
        if self.server is None:
            self.server = Server(self)

    def jump(self, seconds: float) -> None:
        """The servers' wall clock is set."""
        self.skew_s += seconds
        if self.server is not None:
            self.server.clock.skew_s += seconds

    def second_server(self, for_s: float) -> None:
        """One that should not be works on the same records, for less than a lease; nobody talks to it."""
        if self.server is not None:
            self.loop.call_later(for_s, Server(self, self.server.clock).crash)
