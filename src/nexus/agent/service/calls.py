"""Serve calls: dial out to the server, and join what comes with a process or a port here (see `launch.calls`)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from nexus.agent.model import LocalTask
from nexus.agent.ports import Connection, Dial, Doors, Visitor
from nexus.kernel.clock import Clock
from nexus.kernel.errors import ConflictError, ForbiddenError, LimitError, NexusError, UnavailableError
from nexus.launch.calls import (
    BEAT_S,
    SILENCE_S,
    CallKind,
    Part,
    exit_message,
    failed_message,
    message,
    opened,
    read_signal,
    read_size,
)
from nexus.launch.ports import Stream
from nexus.launch.protocol import CallOrder, TaskOrder

Find = Callable[[str], LocalTask | None]

_MOST = 512  # at once on one machine
_TRIES = 4
_PAUSE_S = 0.25
_DRAIN_S = 1.0  # for what children of an ended process still write


@dataclass(frozen=True, slots=True)
class _Use:
    """How a task is reached into: processes that are there now, and when a byte last passed."""

    inside: int = 0
    touched: float = 0.0


class Calls:
    """Every call that this agent serves. A call is served at most once; what it started ends with it."""

    def __init__(self, dial: Dial, doors: Doors, clock: Clock, *, shell: bool = False) -> None:
        """`shell`: the machine's owner allows calls to the machine itself."""
        self._dial = dial
        self._doors = doors
        self._clock = clock
        self._shell = shell
        self._seen: deque[str] = deque(maxlen=4 * _MOST)
        self._running: set[asyncio.Task[None]] = set()
        self._uses: dict[str, _Use] = {}

    def follow(self, orders: Sequence[CallOrder], find: Find) -> None:
        """Serve the calls that are new; `find` gives a task as it is at the moment."""
        for order in orders:
            if order.id in self._seen:
                continue
            self._seen.append(order.id)
            serving = asyncio.ensure_future(self._serve(order, find))
            self._running.add(serving)
            serving.add_done_callback(self._running.discard)

    def used(self, task: str) -> float | None:
        """When somebody last was inside the task or sent a byte to or from one of its ports; None: never."""
        use = self._uses.get(task)
        if use is None:
            return None
        return self._clock.monotonic() if use.inside else use.touched

    def task_ended(self, order: TaskOrder) -> None:
        """Nobody stays in a task that has ended."""
        self._uses.pop(order.task, None)
        leaving = asyncio.ensure_future(self._doors.leave(order))
        self._running.add(leaving)
        leaving.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """End every call."""
        running = list(self._running)
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _serve(self, order: CallOrder, find: Find) -> None:
        stream = await self._connected(order.id)
        if stream is None:
            return
        beating = asyncio.ensure_future(_beat(stream, self._clock))
        serving = asyncio.ensure_future(self._reach(order, find, stream))
        try:
            await asyncio.wait([beating, serving], return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
        except NexusError as error:
            await _say(stream, failed_message(error))
        except Exception as error:
            trouble = NexusError(f"the agent failed: {type(error).__name__}: {error}")
            await _say(stream, failed_message(trouble))
        finally:
            beating.cancel()
            serving.cancel()
            await asyncio.gather(beating, serving, return_exceptions=True)
            await stream.close()

    async def _connected(self, call_id: str) -> Stream | None:
        """The server's end; None if nobody waits there any more."""
        for attempt in range(_TRIES):
            try:
                return await self._dial(call_id)
            except UnavailableError:
                await self._clock.sleep(_PAUSE_S * 2**attempt)
            except NexusError:
                return None
        return None

    async def _reach(self, order: CallOrder, find: Find, stream: Stream) -> None:
        """Raises NexusError, which the caller is told."""
        if len(self._running) > _MOST:
            raise LimitError(f"this node serves {_MOST} calls already", hint="Try again when some have ended.")
        task = find(order.task)
        if order.task:
            if task is None or task.ended or not task.started or task.order.epoch != order.epoch:
                raise ConflictError("the task does not run on this node any more", hint="nexus show RUN says where.")
        elif not self._shell:
            raise ForbiddenError("this machine's owner has not allowed a shell on it")
        if order.kind is CallKind.EXEC:
            await self._exec(order, task, find, stream)
        elif task is not None:
            await self._port(await self._doors.connect(order, task.order), order.task, stream)

    # ------------------------------------------------------------------ exec

    async def _exec(self, order: CallOrder, task: LocalTask | None, find: Find, stream: Stream) -> None:
        visitor = await self._doors.start(order, task.order if task else None)
        self._enter(order.task, 1)
        feeding = asyncio.ensure_future(_feed(visitor, stream))
        showing = asyncio.ensure_future(_show(visitor, stream))
        try:
            await asyncio.wait([feeding, showing], return_when=asyncio.FIRST_COMPLETED)
            if not showing.done():
                feeding.result()  # the caller is gone
                return
            code = showing.result()
            now = find(order.task)
            if code == -9 and order.task and (now is None or now.stop is not None or now.ended):
                raise ConflictError("the task has ended, and what was started in it with it")
            await stream.send(exit_message(code))
        finally:
            for one in (feeding, showing):
                one.cancel()
            await asyncio.gather(feeding, showing, return_exceptions=True)
            self._enter(order.task, -1)
            await visitor.hang_up()

    # ------------------------------------------------------------------ ports

    async def _port(self, connection: Connection, task: str, stream: Stream) -> None:
        async def up() -> None:
            while (said := await _heard(stream)) is not None:
                part, data = opened(said)
                if part is Part.IN:
                    self._touch(task)
                    await connection.write(data)
                elif part is Part.IN_END:
                    connection.end()
                    return
            raise _CallerGoneError

        async def down() -> None:
            while data := await connection.read():
                self._touch(task)
                await stream.send(message(Part.OUT, data))
            await stream.send(message(Part.OUT_END))

        try:
            await _both(up, down)
        except _CallerGoneError:
            return
        finally:
            connection.close()

    def _enter(self, task: str, change: int) -> None:
        use = self._uses.get(task, _Use())
        self._uses[task] = _Use(use.inside + change, self._clock.monotonic())

    def _touch(self, task: str) -> None:
        self._uses[task] = _Use(self._uses.get(task, _Use()).inside, self._clock.monotonic())


class _CallerGoneError(Exception):
    """Nobody listens any more."""


async def _both(*directions: Callable[[], Awaitable[None]]) -> None:
    """Until each has ended, or one has failed."""
    running = [asyncio.ensure_future(direction()) for direction in directions]
    try:
        await asyncio.gather(*running)
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _feed(visitor: Visitor, stream: Stream) -> None:
    """What the caller says, into the process; returns when the caller is gone."""
    while (said := await _heard(stream)) is not None:
        part, data = opened(said)
        match part:
            case Part.IN:
                await visitor.write(data)
            case Part.IN_END:
                visitor.end_input()
            case Part.SIZE:
                visitor.resize(*read_size(data))
            case Part.SIGNAL:
                visitor.signal(read_signal(data))
            case _:
                pass  # a beat, or a word of a newer version


async def _show(visitor: Visitor, stream: Stream) -> int:
    """What the process says, to the caller; its exit code."""
    ended = asyncio.ensure_future(visitor.wait())

    async def show(output: Part) -> None:
        while data := await _next(visitor, output, ended):
            await stream.send(message(output, data))

    try:
        await _both(*[partial(show, output) for output in visitor.outputs])
        return await ended
    finally:
        ended.cancel()


async def _next(visitor: Visitor, output: Part, ended: asyncio.Future[Any]) -> bytes:
    """What was written next. A child may hold the output open for ever: it is given a moment once the process ended."""
    reading: asyncio.Future[Any] = asyncio.ensure_future(visitor.read(output))
    try:
        await asyncio.wait({reading, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            await asyncio.wait([reading], timeout=_DRAIN_S)
        return bytes(reading.result()) if reading.done() else b""
    finally:
        reading.cancel()


async def _heard(stream: Stream) -> bytes | None:
    try:
        async with asyncio.timeout(SILENCE_S):
            return await stream.receive()
    except TimeoutError:
        return None


async def _beat(stream: Stream, clock: Clock) -> None:
    """A sign of life now and then; returns once nobody takes it."""
    try:
        while True:
            await clock.sleep(BEAT_S)
            await stream.send(message(Part.BEAT))
    except UnavailableError:
        return


async def _say(stream: Stream, said: bytes) -> None:
    try:
        await stream.send(said)
    except UnavailableError:
        return
