"""Wake-up calls between the parts of one process. A hint saves waiting, and carries no truth: readers load again."""

from __future__ import annotations

import asyncio
from collections import defaultdict


class Hints:
    """`hint(topic)` wakes everybody who waits for that topic now."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)

    def hint(self, *topics: str) -> None:
        """Wake all who wait for any of `topics`."""
        for topic in topics:
            for future in self._waiting.pop(topic, ()):
                if not future.done():
                    future.set_result(None)

    async def wait(self, *topics: str, timeout_s: float) -> bool:
        """Wait for a hint on any of `topics`; False when none came in time.

        Take the future first and load afterwards (`async with`-free: call `listen`), or a hint in between is missed.
        """
        return await self.until(self.listen(*topics), timeout_s, *topics)

    def listen(self, *topics: str) -> asyncio.Future[None]:
        """A future that the next hint on any of `topics` resolves. Give it to `until`."""
        future = asyncio.get_running_loop().create_future()
        for topic in topics:
            self._waiting[topic].add(future)
        return future

    async def until(self, future: asyncio.Future[None], timeout_s: float, *topics: str) -> bool:
        """Wait for a future that `listen` gave; False after `timeout_s`."""
        try:
            done, _ = await asyncio.wait([future], timeout=timeout_s)
        finally:
            self.drop(future, *topics)
        return bool(done)

    def topics(self) -> set[str]:
        """What somebody waits for now."""
        return set(self._waiting)

    def drop(self, future: asyncio.Future[None], *topics: str) -> None:
        """Listen no more: topics that nobody waits for leave no trace."""
        for topic in topics:
            waiting = self._waiting.get(topic)
            if waiting is not None:
                waiting.discard(future)
                if not waiting:
                    del self._waiting[topic]
