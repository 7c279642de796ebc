"""Wake-up calls between the parts of one process. A hint saves waiting, and carries no truth: readers load again."""

from __future__ import annotations

import asyncio
from collections import defaultdict


class Hints:
    """`hint(topic)` wakes everybody who waits for that topic now."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, set[asyncio.Future[bool]]] = defaultdict(set)

    def hint(self, *topics: str) -> None:
        """Wake all who wait for any of `topics`."""
        for topic in topics:
            for future in self._waiting.pop(topic, ()):
                if not future.done():
                    future.set_result(True)

    async def wait(self, *topics: str, timeout_s: float) -> bool:
        """Wait for a hint on any of `topics`; False when none came in time.

        Take the future first and load afterwards (`async with`-free: call `listen`), or a hint in between is missed.
        """
        return await self.until(self.listen(*topics), timeout_s, *topics)

    def listen(self, *topics: str) -> asyncio.Future[bool]:
        """A future that the next hint on any of `topics` resolves. Give it to `until`."""
        future = asyncio.get_running_loop().create_future()
        for topic in topics:
            self._waiting[topic].add(future)
        return future

    async def until(self, future: asyncio.Future[bool], timeout_s: float, *topics: str) -> bool:
        """Wait for a future that `listen` gave; False after `timeout_s`.

        Others get their turn in any case: a loop that always has news does not keep them waiting.
        """
        timer = asyncio.get_running_loop().call_later(timeout_s, _give_up, future)
        try:
            await asyncio.sleep(0)
            return await future
        finally:
            timer.cancel()
            self.drop(future, *topics)

    def topics(self) -> set[str]:
        """What somebody waits for now."""
        return set(self._waiting)

    def drop(self, future: asyncio.Future[bool], *topics: str) -> None:
        """Listen no more: topics that nobody waits for leave no trace."""
        for topic in topics:
            waiting = self._waiting.get(topic)
            if waiting is not None:
                waiting.discard(future)
                if not waiting:
                    del self._waiting[topic]


def _give_up(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(False)
