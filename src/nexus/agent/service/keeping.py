"""Keep one task: prepare, wait for its gang, start, watch, collect. Every step can be entered anew after a crash."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from nexus.agent.core.leases import delay_s
from nexus.agent.core.outcome import ended
from nexus.agent.core.remembering import matters
from nexus.agent.model import LOG, Exit, LocalTask
from nexus.agent.ports import Channel, Journal, Runner, Spool
from nexus.agent.service.idling import Idling, Pulse
from nexus.agent.service.shipping import Shipper
from nexus.kernel.clock import Clock
from nexus.kernel.errors import NexusError, UnavailableError
from nexus.launch.model import Cause, TaskState
from nexus.launch.protocol import TaskOrder

_WATCH_S = 1.0  # a process that ends says so at once; this is for one whose supervisor was killed


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a keeper needs beside its task."""

    channel: Channel
    runner: Runner
    spool: Spool
    journal: Journal
    clock: Clock
    chance: Callable[[], float]
    lease: Callable[[str], float | None]  # when a task's lease ends; None while the server has not said so
    changed: Callable[[], None]  # something is to be reported
    ended: Callable[[TaskOrder], None]  # a task has, and nobody stays in it
    pulse: Pulse  # of tasks that are stopped when they are idle
    doubt_s: float = 0.0  # so long nobody is told of an end: what ended the task may be about to end us


class _NotWantedError(Exception):
    """The task must end, and has no process."""


class Keeper:
    """One task's life on this machine. `run` returns when the task has ended and the server has all it wrote."""

    def __init__(self, task: LocalTask, world: World) -> None:
        self.task = task
        self._world = world
        self._shipper = Shipper(task.order, world.channel, world.spool, world.runner, world.clock, world.chance)
        self._news = asyncio.Event()  # the order, or what is wanted, has changed
        self._preparing: asyncio.Future[None] | None = None
        self._was_healthy = False
        self._is_recorded = False

    @property
    def drained(self) -> bool:
        """Whether the server has everything that the ended task wrote."""
        return self.task.ended and self._shipper.drained.is_set()

    def follow(self, order: TaskOrder) -> None:
        """The order as the server says it now."""
        self._set(order=order)
        self._news.set()

    def end(self, why: Cause, detail: str) -> None:
        """The task must not go on. The first reason stays."""
        if self.task.ended:
            return
        if self.task.stop is None:
            state = TaskState.STOPPING if self.task.started else self.task.state
            self._set(stop=why, detail=detail, state=state)
        if self.task.started:
            self._world.runner.stop(self.task.order)
        elif self._preparing is not None:
            self._preparing.cancel()
        self._news.set()

    def end_unstarted(self) -> None:
        """The task came with the word that it is not wanted any more."""
        self._set(state=TaskState.STOPPED, cause=Cause.STOPPED, stop=Cause.STOPPED, detail="stopped before it started")

    def lease(self, until: float) -> None:
        """The lease was renewed."""
        if not self.task.ended:
            try:
                self._world.runner.extend(self.task.order, until)
            except OSError as error:
                self._set(detail=f"its lease cannot be written: {error.strerror or error}")
        self._news.set()

    async def run(self) -> None:
        """Live, and ship what the task writes, until both are done."""
        shipping = asyncio.ensure_future(self._shipper.run())
        try:
            if not self.task.ended:
                await self._live()
            self._shipper.finish()
            await shipping
            self._world.changed()
        finally:
            shipping.cancel()

    async def _live(self) -> None:
        try:
            if self.task.started and not (await self._world.runner.look(self.task.order)).was_started:
                self._set(started=False)  # the agent was killed between its word and the deed
            if not self.task.started:
                await self._prepare()
                await self._until_go()
                await self._start()
            end = await self._watch()
            if self._world.doubt_s and self.task.stop is None:
                await self._world.clock.sleep(self._world.doubt_s)
            self._finish(await self._collect(end))
        except _NotWantedError:
            self._finish(self._unstarted())
        except NexusError as error:
            words = f"{error.message} ({error.hint})" if error.hint else error.message
            self._say(words)
            self._finish(replace(self.task, state=TaskState.FAILED, cause=Cause.SETUP, detail=words))
        except Exception as error:
            if self.task.started:
                self._world.runner.stop(self.task.order)
            detail = f"the agent failed: {type(error).__name__}: {error}"
            self._finish(replace(self.task, state=TaskState.FAILED, cause=Cause.INTERNAL, detail=detail))

    def _unstarted(self) -> LocalTask:
        """The end of a task that was stopped before it had a process."""
        stopped = self.task.stop is Cause.STOPPED
        return replace(self.task, state=TaskState.STOPPED if stopped else TaskState.FAILED, cause=self.task.stop)

    async def _prepare(self) -> None:
        self._world.runner.extend(self.task.order, await self._until_leased())
        self._set(state=TaskState.PREPARING, detail="preparing")
        self._preparing = asyncio.ensure_future(self._prepare_surely())
        try:
            await self._preparing
        except asyncio.CancelledError:
            self._stay_wanted()
            self._preparing.cancel()
            raise
        finally:
            self._preparing = None
        self._stay_wanted()
        ports = self.task.ports or await self._world.runner.choose_ports(self.task.order)
        self._set(state=TaskState.READY, detail="", ports=ports)

    async def _prepare_surely(self) -> None:
        """Again and again while the server cannot be reached for the task's files: its lease bounds that."""
        order, failures = self.task.order, 0
        fetch = partial(self._world.channel.get_blob, order.task, order.epoch)
        while True:
            try:
                return await self._world.runner.prepare(order, fetch, self._show)
            except UnavailableError as error:
                self._set(detail=f"preparing: {error.message}")
            await self._world.clock.sleep(delay_s(failures, self._world.chance()))
            failures += 1

    async def _until_leased(self) -> float:
        """When the lease ends; a restarted agent first has to hear that it still holds."""
        while True:
            self._news.clear()
            self._stay_wanted()
            lease = self._world.lease(self.task.order.task)
            if lease is not None and lease > self._world.clock.monotonic():
                return lease
            await self._news.wait()

    async def _until_go(self) -> None:
        """A gang's tasks wait for each other."""
        while not self.task.order.go:
            self._news.clear()
            self._stay_wanted()
            await self._news.wait()

    async def _start(self) -> None:
        until = await self._until_leased()
        order = self.task.order
        # Said before the deed, so that no second process is ever started; nothing can be reported in between.
        self._set(started=True, state=TaskState.RUNNING, healthy=order.health is None)
        await self._world.runner.start(order, self.task.ports, until)
        if self.task.stop is not None:
            self._world.runner.stop(order)

    async def _watch(self) -> Exit:
        runner, clock = self._world.runner, self._world.clock
        since = clock.monotonic()
        next_check = since
        idling = Idling(self.task.order, self._world.pulse, clock) if self.task.order.idle_stop_s else None
        while True:
            seen = await runner.look(self.task.order)
            if seen.exit is not None:
                return seen.exit
            if self.task.stop is None and seen.detail != self.task.detail:
                self._set(detail=seen.detail)
            health = self.task.order.health
            pause = _WATCH_S
            if idling is not None and self.task.stop is None:
                self._set(idle=idling.look())
            if health is not None and self.task.stop is None:
                if clock.monotonic() >= next_check:
                    await self._check_health(since)
                    next_check = clock.monotonic() + health.every_s
                pause = min(pause, max(0.01, next_check - clock.monotonic()))
            await runner.activity(self.task.order, pause)

    async def _check_health(self, since: float) -> None:
        order = self.task.order
        healthy = await self._world.runner.is_healthy(order, self.task.ports)
        self._was_healthy = self._was_healthy or healthy
        if self.task.stop is not None or order.health is None:
            return
        if healthy != self.task.healthy:
            self._set(healthy=healthy)
        if not self._was_healthy and self._world.clock.monotonic() - since > order.health.timeout_s:
            self.end(Cause.HEALTH, f"did not answer at {order.health.path} within {order.health.timeout_s:g} s")

    async def _collect(self, end: Exit) -> LocalTask:
        """After a good end the outputs are kept first, so that whoever sees the run succeed finds them."""
        after = ended(self.task, end)
        if after.state is not TaskState.SUCCEEDED:
            return after
        trouble = ""
        try:
            for parcel in await self._world.spool.outputs(self.task.order):
                self._set(detail=f"keeping {parcel.name}")
                await self._shipper.deliver_surely(parcel, lambda: self.task.stop is not None)
        except UnavailableError:
            trouble = "stopped before its outputs were kept"
        except NexusError as error:
            trouble = f"an output could not be kept: {error.message}"
        except OSError as error:
            trouble = f"an output could not be read: {error.strerror or error}"
        if trouble:
            self._say(trouble)
        return replace(ended(replace(self.task, stop=None), end), detail=trouble)

    def _finish(self, task: LocalTask) -> None:
        self._put(replace(task, log_end=self._world.spool.ends(task.order).get(LOG, 0), healthy=False))
        self._world.ended(task.order)

    def _stay_wanted(self) -> None:
        if self.task.stop is not None:
            raise _NotWantedError

    def _show(self, text: str) -> None:
        """Say what is done now, in the log and to whoever looks at the task."""
        self._say(text)
        self._set(detail=text)

    def _say(self, text: str) -> None:
        try:
            self._world.spool.say(self.task.order, text)
        except OSError as error:
            self._set(detail=f"{text} ({error.strerror})")

    def _set(self, **changes: Any) -> None:
        self._put(replace(self.task, **changes))

    def _put(self, task: LocalTask) -> None:
        if task == self.task:
            return
        try:
            if not self._is_recorded or matters(self.task, task):
                self._world.journal.save(task)
                self._is_recorded = True
        except OSError as error:
            # The process matters more than its record. Only the word `started` must be on disk before the start.
            if task.started and not self.task.started:
                raise UnavailableError(f"the journal cannot be written: {error.strerror or error}") from error
            task = replace(task, detail=task.detail or f"the journal cannot be written: {error.strerror or error}")
        self.task = task
        self._world.changed()
