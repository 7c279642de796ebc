"""Send what a task wrote to the server: in order, at least once, and as soon as it is written."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from nexus.agent.core.leases import delay_s
from nexus.agent.model import LOG, Parcel
from nexus.agent.ports import Channel, Runner, Spool
from nexus.kernel.clock import Clock
from nexus.kernel.errors import ConflictError, DeniedError, FencedError, NexusError, NotFoundError, UnavailableError
from nexus.launch.protocol import ArtifactReport, TaskOrder

PIECE_B = 256 * 1024  # of a stream, in one request
_LOOK_S = 0.5  # how often a live task's metrics and artifact requests are looked for, if its log says nothing


class Shipper:
    """One task's streams and parcels. `run` ends when the task has ended and everything is with the server.

    The server's word decides: it answers how many bytes it has, and the next piece begins there, whether that is
    before or after what was sent. So nothing here needs to be remembered over a restart.
    """

    def __init__(
        self,
        order: TaskOrder,
        channel: Channel,
        spool: Spool,
        runner: Runner,
        clock: Clock,
        chance: Callable[[], float],
    ) -> None:
        self._order = order
        self._channel = channel
        self._spool = spool
        self._runner = runner
        self._clock = clock
        self._chance = chance
        self._shipped: dict[str, int] = {}
        self._refused: set[str] = set()
        self._gave_up = False
        self._final = False
        self.drained = asyncio.Event()  # the task has ended, and the server has all of it

    def finish(self) -> None:
        """The task has ended: nothing more will be written."""
        self._final = True

    async def run(self) -> None:
        """Ship until the task is drained. Streams and parcels have a loop each: a large model delays no log line."""
        loops = [asyncio.ensure_future(self._repeat(work)) for work in (self._ship_streams, self._ship_requests)]
        try:
            await asyncio.gather(*loops)
        finally:
            for loop in loops:
                loop.cancel()
        self.drained.set()

    async def _repeat(self, work: Callable[[], Awaitable[bool]]) -> None:
        """Until the task has ended and there is nothing more for `work` to move."""
        failures = 0
        while True:
            was_final = self._final
            try:
                moved = await work()
                failures = 0
            except (UnavailableError, DeniedError):
                await self._clock.sleep(delay_s(failures, self._chance()))
                failures += 1
                continue
            if moved:
                continue
            if was_final:
                return
            await self._runner.activity(self._order, _LOOK_S)

    async def _ship_streams(self) -> bool:
        """One piece of every stream, the log first; whether anything was sent."""
        moved = False
        ends = self._spool.ends(self._order)
        for stream in sorted(ends, key=lambda name: (name != LOG, name)):
            moved = await self._ship_piece(stream, ends[stream]) or moved
        return moved

    async def _ship_requests(self) -> bool:
        moved = False
        for parcel in () if self._gave_up else await self._spool.requests(self._order):
            moved = await self._ship_request(parcel) or moved
        return moved

    async def _ship_piece(self, stream: str, end: int) -> bool:
        if stream in self._refused:
            return False
        offset = self._shipped.get(stream, 0)
        data = self._spool.read(self._order, stream, offset, PIECE_B)
        if not data:
            if self._final and offset < end:
                self._refused.add(stream)  # the server wants what it once had, and what therefore is gone from here
            return False
        have = await self._send(stream, offset, data)
        if have is None or (have == offset and self._final and stream != LOG):
            # Refused for good; or what a dead writer left half written, which the server will never take.
            self._refused.add(stream)
            return have is None
        self._shipped[stream] = have
        self._spool.free(self._order, stream, have)
        return have != offset

    async def _send(self, stream: str, offset: int, data: bytes) -> int | None:
        """How many bytes the server has; None if it will never take this stream from us."""
        try:
            return await self._channel.ship(self._order.task, self._order.epoch, stream, offset, data)
        except (FencedError, NotFoundError):
            return None
        except ConflictError as error:
            expected = error.details.get("expected")
            return int(expected) if expected is not None else None
        except (UnavailableError, DeniedError):
            raise
        except NexusError as error:
            # The server is there and cannot take it now (its disk is full, say): the spool keeps it, we try again.
            raise UnavailableError(error.message, hint=error.hint) from error

    async def _ship_request(self, parcel: Parcel) -> bool:
        try:
            await self.deliver(parcel)
        except (FencedError, NotFoundError):
            self._gave_up = True
            return False
        except (UnavailableError, DeniedError):
            raise
        except NexusError:
            self._gave_up = self._final  # too large for the server: tried again while the task lives, for room may come
            return False
        self._spool.done(self._order, parcel)
        return True

    async def deliver(self, parcel: Parcel) -> None:
        """One try to upload a parcel and report it. Raises NexusError."""
        lease = (self._order.task, self._order.epoch)
        if not await self._channel.has_blob(*lease, parcel.digest):
            content = self._spool.open(self._order, parcel)
            await self._channel.put_blob(*lease, parcel.digest, parcel.size_b, content)
        report = ArtifactReport(
            name=parcel.name,
            digest=parcel.digest,
            size_b=parcel.size_b,
            path=parcel.path,
            packed=parcel.packed,
            kind=parcel.kind,
            meta=parcel.meta,
        )
        await self._channel.artifact(self._order.task, self._order.epoch, report)

    async def deliver_surely(self, parcel: Parcel, give_up: Callable[[], bool]) -> None:
        """Repeat `deliver` while the server does not answer. Raises UnavailableError once `give_up` says so."""
        failures = 0
        while True:
            try:
                await self.deliver(parcel)
                break
            except UnavailableError:
                if give_up():
                    raise
            await self._clock.sleep(delay_s(failures, self._chance()))
            failures += 1
        self._spool.done(self._order, parcel)
