"""The network between agents and the server: it loses, delays, doubles, and parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, TypeVar

from nexus.kernel.errors import UnavailableError
from nexus.launch.protocol import ArtifactReport, Desired, Report
from tests.simulation.loop import VirtualLoop

if TYPE_CHECKING:
    from tests.simulation.world import Server, World

T = TypeVar("T")
_TIMEOUT_S = 8.0  # after which an agent gives a request up


@dataclass
class Weather:
    """How bad the network is now; all zero is a good one."""

    lose: float = 0.0  # a request, or its answer
    double: float = 0.0  # a request arrives twice
    delay_s: float = 0.0  # at most, each way


class Line:
    """One agent's `Channel`."""

    def __init__(self, world: World, loop: VirtualLoop, node: str, dice: Random) -> None:
        self._world = world
        self._loop = loop
        self._node = node
        self._dice = dice
        self.cut = False  # nothing passes, either way

    async def sync(self, report: Report, *, since: int, wait_s: float) -> Desired:
        return await self._call(lambda server: server.launch.sync(self._node, report, since, wait_s))

    async def ship(self, task: str, epoch: int, stream: str, offset: int, data: bytes) -> int:
        return await self._call(lambda server: server.take_log(self._node, task, epoch, offset, data))

    async def artifact(self, task: str, epoch: int, report: ArtifactReport) -> None:
        await self._call(lambda server: server.take_artifact(self._node, task, epoch, report))

    async def has_blob(self, task: str, epoch: int, digest: str) -> bool:
        return True

    async def put_blob(self, task: str, epoch: int, digest: str, size_b: int, chunks: AsyncIterator[bytes]) -> None:
        raise AssertionError("every blob is there")

    def get_blob(self, task: str, epoch: int, digest: str) -> AsyncIterator[bytes]:
        raise AssertionError("no job of the simulation has a workspace")

    async def _call(self, handle: Callable[[Server], Awaitable[T]]) -> T:
        try:
            return await asyncio.wait_for(self._exchange(handle), _TIMEOUT_S)
        except TimeoutError as error:
            raise UnavailableError("no answer in time") from error

    async def _exchange(self, handle: Callable[[Server], Awaitable[T]]) -> T:
        await self._pass()
        if self._dice.random() < self._world.weather.double:
            self._loop.call_later(self._dice.uniform(0, 5), self._world.serve_late, handle)
        answer = await self._world.serve(handle)
        await self._pass()
        return answer

    async def _pass(self) -> None:
        weather = self._world.weather
        await asyncio.sleep(0.001 + self._dice.uniform(0, weather.delay_s))
        if self.cut or self._dice.random() < weather.lose:
            await asyncio.sleep(self._dice.uniform(0, _TIMEOUT_S))
            raise UnavailableError("the network lost it")
