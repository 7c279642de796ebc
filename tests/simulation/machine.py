"""A machine of the simulation: its processes and its disk outlive the agent, as on a real one."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from nexus.agent.model import LOG, Exit, LocalTask, Parcel, Sighting
from nexus.agent.ports import Fetch, Say
from nexus.agent.service import Agent
from nexus.launch.model import Capacity, Gpu
from nexus.launch.protocol import NodeInfo, TaskOrder
from tests.simulation.loop import VirtualClock, VirtualLoop


@dataclass
class Process:
    """A job: writes a line a second, and ends by itself, by TERM, or with its lease."""

    order: TaskOrder
    began: float
    ends: float
    exit_code: int
    lease_until: float
    killed: Exit | None = None
    stop_at: float | None = None

    def ended_at(self) -> float:
        """When it ended, or will with what is known now (in its machine's monotonic time)."""
        return min(self.ends, self.lease_until, self.stop_at if self.stop_at is not None else self.ends)

    def exit(self, now: float) -> Exit | None:
        """How it ended, if it has."""
        if self.killed is not None:
            return self.killed
        if now < self.ended_at():
            return None
        if self.stop_at is not None and self.stop_at <= min(self.ends, self.lease_until):
            self.killed = Exit(signal=15, killed_for="stop")
        elif self.lease_until < self.ends:
            self.killed = Exit(signal=9, killed_for="lease")
        else:
            self.killed = Exit(exit_code=self.exit_code)
        return self.killed


@dataclass
class Disk:
    """What a killed agent leaves behind."""

    journal: dict[str, LocalTask] = field(default_factory=dict)
    said: dict[str, bytes] = field(default_factory=dict)  # by Nexus, before the process
    said_after: dict[str, bytes] = field(default_factory=dict)  # and after its end
    processes: dict[str, Process] = field(default_factory=dict)


class Machine:
    """One node: disk, clock, and (between crashes) an agent. Implements the agent's Runner, Spool and Journal."""

    def __init__(
        self, loop: VirtualLoop, name: str, cpu: float, dice: Random, began: Callable[[Machine, Process], None]
    ):
        self.name = name
        self.loop = loop
        self.clock = VirtualClock(loop, skew_s=dice.uniform(-3600, 3600), rate=dice.uniform(0.98, 1.02))
        self.disk = Disk()
        self.dice = dice
        self.node = ""  # its id, once joined
        self.cpu = cpu
        self.boots = 0
        self.price = round(dice.uniform(0.0, 4.0), 2)
        self._began = began
        self._woken = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self.agent: Agent | None = None

    def info(self) -> NodeInfo:
        """What its agent says of it."""
        boot = f"{self.name}.{self.boots}"
        return NodeInfo(
            name=self.name,
            boot=boot,
            capacity=Capacity(cpu=self.cpu, gpus=(Gpu("T4"),) * int(self.cpu)),
            address=self.name,
            price=self.price,
        )

    # ------------------------------------------------------------------ life and death

    def start_agent(self, channel: object) -> None:
        """Start the real agent on this machine's disk."""
        ports = (self, self, self)
        self.agent = Agent(channel, *ports, self.clock, self.info(), self.dice.random)  # type: ignore[arg-type]
        self._running = asyncio.ensure_future(self.agent.run(asyncio.Event()))

    def kill_agent(self) -> None:
        """`kill -9`: processes and disk stay."""
        if self._running is not None:
            self._running.cancel()
            self._running = None

    def wipe(self) -> None:
        """The machine is made anew: nothing stays."""
        self.kill_agent()
        self.disk = Disk()
        self.boots += 1

    def check(self) -> None:
        """Raise what the agent died of."""
        if self._running is not None and self._running.done() and not self._running.cancelled():
            self._running.result()

    # ------------------------------------------------------------------ Runner

    async def prepare(self, order: TaskOrder, fetch: Fetch, say: Say) -> None:
        say("preparing")
        await self.clock.sleep(self.dice.uniform(0.0, 2.0))

    async def choose_ports(self, order: TaskOrder) -> dict[str, int]:
        return {port.name: 1024 + self.dice.randrange(60000) for port in order.ports}

    async def start(self, order: TaskOrder, ports: dict[str, int], lease_until: float) -> None:
        if order.task in self.disk.processes:
            return
        now = self.clock.monotonic()
        seconds, code = float(order.argv[1]), int(order.argv[2])
        process = Process(order, now, now + seconds, code, lease_until)
        self.disk.processes[order.task] = process
        self._began(self, process)
        self._wake_at(process)

    async def look(self, order: TaskOrder) -> Sighting:
        process = self.disk.processes.get(order.task)
        if process is None:
            return Sighting()
        end = process.exit(self.clock.monotonic())
        return Sighting(alive=end is None, exit=end)

    async def is_healthy(self, order: TaskOrder, ports: dict[str, int]) -> bool:
        return True

    def extend(self, order: TaskOrder, lease_until: float) -> None:
        process = self.disk.processes.get(order.task)
        if process is not None and process.exit(self.clock.monotonic()) is None:
            process.lease_until = max(process.lease_until, lease_until)

    def stop(self, order: TaskOrder) -> None:
        process = self.disk.processes.get(order.task)
        if process is not None and process.stop_at is None:
            process.stop_at = self.clock.monotonic() + self.dice.uniform(0.0, order.grace_s)
            self._wake_at(process)

    async def activity(self, order: TaskOrder, timeout_s: float) -> None:
        try:
            await asyncio.wait_for(self._woken.wait(), timeout_s / self.clock.rate)
        except TimeoutError:
            return

    def _wake_at(self, process: Process) -> None:
        wait = max(0.0, process.ended_at() - self.clock.monotonic()) / self.clock.rate
        self.loop.call_later(wait, self._wake)

    def _wake(self) -> None:
        self._woken.set()
        self._woken = asyncio.Event()

    async def remove(self, order: TaskOrder) -> None:
        self.disk.processes.pop(order.task, None)
        self.disk.said.pop(order.task, None)
        self.disk.said_after.pop(order.task, None)

    # ------------------------------------------------------------------ Spool

    def log_of(self, task: str) -> bytes:
        """The whole log so far: what Nexus said first, then a line a second."""
        process = self.disk.processes.get(task)
        if process is None:
            return self.disk.said.get(task, b"")
        now = self.clock.monotonic()
        process.exit(now)
        lines = int(min(now, process.ended_at()) - process.began) + 1
        written = b"".join(f"{line}\n".encode() for line in range(lines))
        return self.disk.said.get(task, b"") + written + self.disk.said_after.get(task, b"")

    def say(self, order: TaskOrder, text: str) -> None:
        book = self.disk.said_after if order.task in self.disk.processes else self.disk.said
        book[order.task] = book.get(order.task, b"") + f"{text}\n".encode()

    def ends(self, order: TaskOrder) -> dict[str, int]:
        return {LOG: len(self.log_of(order.task))}

    def read(self, order: TaskOrder, stream: str, offset: int, limit_b: int) -> bytes:
        return self.log_of(order.task)[offset : offset + limit_b]

    def free(self, order: TaskOrder, stream: str, offset: int) -> None:
        return

    async def requests(self, order: TaskOrder) -> Sequence[Parcel]:
        return ()

    async def outputs(self, order: TaskOrder) -> Sequence[Parcel]:
        digest = hashlib.sha256(order.task.encode()).hexdigest()
        return [Parcel(key=order.task, name="model", digest=digest, size_b=1)] if "keeps" in order.argv else []

    async def open(self, order: TaskOrder, parcel: Parcel) -> AsyncIterator[bytes]:
        yield order.task.encode()

    def done(self, order: TaskOrder, parcel: Parcel) -> None:
        return

    # ------------------------------------------------------------------ Journal

    def load(self) -> list[LocalTask]:
        return list(self.disk.journal.values())

    def save(self, task: LocalTask) -> None:
        self.disk.journal[task.order.task] = replace(task)

    def drop(self, order: TaskOrder) -> None:
        self.disk.journal.pop(order.task, None)
