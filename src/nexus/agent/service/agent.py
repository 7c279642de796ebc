"""The agent: what should be comes in, what is goes out, and a keeper for each task brings one to the other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from nexus.agent.core.leases import delay_s, next_expiry, renewed
from nexus.agent.core.reconcile import Begin, End, Follow, Forget, reconcile
from nexus.agent.core.reports import task_report
from nexus.agent.model import LOG, LocalTask
from nexus.agent.ports import Channel, Journal, Runner, Spool, UsedCpu
from nexus.agent.service.calls import Calls
from nexus.agent.service.idling import Pulse
from nexus.agent.service.keeping import Keeper, World
from nexus.agent.service.metering import Metering
from nexus.kernel.clock import Clock
from nexus.kernel.errors import DeniedError, NexusError
from nexus.launch.protocol import Desired, NodeInfo, Report

_FIRST_HEARTBEAT_S = 10.0  # until the server has said its own
_LONGEST_NAP_S = 3600.0


class Agent:
    """Keeps a node's tasks as the server wants them. Level-triggered: any message may be lost, late or doubled.

    Two requests may be under way at once: a long poll, and a short one that says what has just changed. `chance`
    gives numbers in 0..1, which spread retries.
    """

    def __init__(
        self,
        channel: Channel,
        runner: Runner,
        spool: Spool,
        journal: Journal,
        clock: Clock,
        info: NodeInfo,
        chance: Callable[[], float],
        note: Callable[[str], None] = lambda _: None,
        calls: Calls | None = None,
        used_cpu_s: UsedCpu = lambda _: None,
        metering: Metering | None = None,
        doubt_s: float = 0.0,
    ) -> None:
        self.info = info
        self._channel = channel
        self._runner = runner
        self._spool = spool
        self._journal = journal
        self._clock = clock
        self._chance = chance
        self._calls = calls
        self._metering = metering
        self._note = note  # a line for the machine's owner
        self._keepers: dict[str, Keeper] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._leases: dict[str, float] = {}
        self._desired: Desired | None = None
        self._forgotten: deque[tuple[str, int]] = deque(maxlen=1000)
        self._sent = 0  # requests so far
        self._heard = 0  # the newest request whose answer was taken
        self._changed = asyncio.Event()
        self._renewed = asyncio.Event()
        self._world = World(
            channel=channel,
            runner=runner,
            spool=spool,
            journal=journal,
            clock=clock,
            chance=chance,
            lease=self._leases_get,
            changed=self._changed.set,
            ended=calls.task_ended if calls else lambda _: None,
            pulse=Pulse(used_cpu_s, calls.used if calls else lambda _: None),
            doubt_s=doubt_s,
        )

    @property
    def tasks(self) -> dict[str, LocalTask]:
        """Every task that is here, by id."""
        return {task: keeper.task for task, keeper in self._keepers.items()}

    def learn(self, info: NodeInfo) -> None:
        """The machine has turned out to be able to more than was known: the server hears of it at once."""
        self.info = info
        self._changed.set()

    @property
    def version(self) -> int:
        """The newest version of what should be that was heard."""
        return self._desired.version if self._desired else 0

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. Tasks then go on by themselves, to the end of their leases.

        Raises DeniedError once the server does not know this node any more and its last task has ended.
        """
        for task in self._journal.load():
            self._keep(Keeper(task, self._world))
        loops = [asyncio.ensure_future(loop()) for loop in (self._poll, self._tell, self._fence)]
        if self._metering is not None:
            loops.append(asyncio.ensure_future(self._metering.run(lambda: self.tasks)))
        stopping = asyncio.ensure_future(stop.wait())
        try:
            done, _ = await asyncio.wait([*loops, stopping], return_when=asyncio.FIRST_COMPLETED)
            for loop in done:
                loop.result()
        finally:
            everything = [*loops, stopping, *self._running.values()]
            for one in everything:
                one.cancel()
            if self._calls is not None:
                await self._calls.close()
            await asyncio.gather(*everything, return_exceptions=True)

    async def _poll(self) -> None:
        """The long poll, which is the heartbeat too."""
        failures = 0
        while True:
            began = self._clock.monotonic()
            before = self._desired
            wait_s = self._heartbeat_s if self._desired else 0.0
            if await self._sync(wait_s):
                failures = 0
                early = wait_s / 2 - (self._clock.monotonic() - began)
                if early > 0 and self._desired == before:  # an acknowledgement is news too, and changes no version
                    await self._clock.sleep(early)  # a server that does not wait must not make us spin
            else:
                await self._clock.sleep(delay_s(failures, self._chance(), longest_s=self._heartbeat_s))
                failures += 1

    async def _tell(self) -> None:
        """Say at once what has changed."""
        failures = 0
        while True:
            await self._changed.wait()
            self._changed.clear()
            if await self._sync(0.0):
                failures = 0
            else:
                self._changed.set()
                await self._clock.sleep(delay_s(failures, self._chance(), longest_s=self._heartbeat_s))
                failures += 1

    async def _fence(self) -> None:
        """End tasks whose lease ends, whatever the network does."""
        while True:
            self._renewed.clear()
            self._reconcile()
            live = frozenset(task for task, local in self.tasks.items() if not local.ended)
            pause = next_expiry(self._leases, live, self._clock.monotonic(), _LONGEST_NAP_S)
            # An expired lease of a task that takes its time to end is looked at again, not at once.
            waiting = asyncio.ensure_future(self._renewed.wait())
            napping = asyncio.ensure_future(self._clock.sleep(max(pause, 0.2)))
            try:
                await asyncio.wait([waiting, napping], return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
                napping.cancel()

    async def _sync(self, wait_s: float) -> bool:
        """One exchange; whether it came about. Raises DeniedError when there is nothing left to do here."""
        self._sent += 1
        number, sent_at = self._sent, self._clock.monotonic()
        try:
            desired = await self._channel.sync(self.report(), since=self.version, wait_s=wait_s)
        except DeniedError as error:
            if all(local.ended for local in self.tasks.values()):
                raise
            self._note(f"{error.message}: tasks go on to the end of their leases")
            return False
        except NexusError as error:
            self._note(error.message)
            return False
        self._leases = renewed(self._leases, desired, sent_at)
        if number > self._heard or desired.version >= self.version:
            self._heard = max(number, self._heard)
            self._desired = desired
        for order in desired.orders:
            keeper = self._keepers.get(order.task)
            if keeper is not None:
                keeper.lease(self._leases[order.task])
        self._reconcile()
        if self._calls is not None:
            self._calls.follow(desired.calls, self._task)
        self._renewed.set()
        return True

    def report(self) -> Report:
        """Everything that is, now."""
        reports = [
            task_report(keeper.task, self._spool.ends(keeper.task.order).get(LOG, 0))
            for keeper in self._keepers.values()
        ]
        return Report(info=self.info, tasks=tuple(reports))

    def _reconcile(self) -> None:
        for action in reconcile(self._desired, self.tasks, self._leases, self._clock.monotonic()):
            match action:
                case Begin(order) if (order.task, order.epoch) in self._forgotten:
                    pass  # a late answer, from before the server heard of its end
                case Begin(order):
                    keeper = Keeper(LocalTask(order=order), self._world)
                    if order.wanted == "stop":
                        keeper.end_unstarted()
                    self._keep(keeper)
                case Follow(order):
                    self._keepers[order.task].follow(order)
                case End(task, why, detail):
                    self._keepers[task].end(why, detail)
                case Forget(task):
                    self._forget(task)

    def _keep(self, keeper: Keeper) -> None:
        task = keeper.task.order.task
        self._keepers[task] = keeper
        self._running[task] = asyncio.ensure_future(keeper.run())
        self._changed.set()

    def _forget(self, task: str) -> None:
        """Once the server has heard of the end and has all that was written, nothing of the task stays."""
        keeper, running = self._keepers[task], self._running[task]
        if not keeper.drained or not running.done():
            return
        del self._keepers[task], self._running[task]
        self._leases.pop(task, None)
        self._journal.drop(keeper.task.order)
        self._forgotten.append((task, keeper.task.order.epoch))
        removing = asyncio.ensure_future(self._runner.remove(keeper.task.order))
        self._running[f"remove {task}"] = removing
        removing.add_done_callback(lambda _: self._running.pop(f"remove {task}", None))

    @property
    def _heartbeat_s(self) -> float:
        return self._desired.heartbeat_s if self._desired else _FIRST_HEARTBEAT_S

    def _task(self, task: str) -> LocalTask | None:
        keeper = self._keepers.get(task)
        return keeper.task if keeper else None

    def _leases_get(self, task: str) -> float | None:
        return self._leases.get(task)
