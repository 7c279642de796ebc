"""An asyncio loop on virtual time: it never waits, jumps to the next timer, and runs ready callbacks in seeded order.

Everything that happens in it follows from the seed. No sockets, threads or processes: those belong to adapters.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
STANDSTILL = 3000  # steps without time going on: somebody wakes somebody who wakes the first


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` is virtual. `after_step` is called between any two moments at which something happens."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._virtual = 1000.0
        self._dice = random.Random(seed)
        self.after_step: Callable[[], None] = lambda: None
        self.steps = 0
        self.stands_still = 0
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._virtual

    def _run_once(self) -> None:
        ready: deque[Any] = self._ready  # type: ignore[attr-defined]
        scheduled: list[Any] = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            self._timer_cancelled_count -= 1  # type: ignore[attr-defined]
        if not ready and not scheduled and not self._stopping:  # type: ignore[attr-defined]
            raise AssertionError("nothing will ever happen any more: everybody waits for somebody")
        if not ready and scheduled:
            self._virtual = max(self._virtual, scheduled[0]._when)
            self.stands_still = 0
        self.stands_still += 1
        if self.stands_still > STANDSTILL:
            raise AssertionError("time stands still: somebody wakes somebody who wakes the first")
        if len(ready) > 1:
            shuffled = list(ready)
            self._dice.shuffle(shuffled)
            ready.clear()
            ready.extend(shuffled)
        self.steps += 1
        super()._run_once()  # type: ignore[misc]
        self.after_step()


class VirtualClock:
    """A `kernel.clock.Clock` on the virtual loop; `skew_s` and `rate` make a machine's clocks wrong."""

    def __init__(self, loop: VirtualLoop, *, skew_s: float = 0.0, rate: float = 1.0) -> None:
        self._loop = loop
        self.skew_s = skew_s
        self.rate = rate

    def now(self) -> float:
        return 1_700_000_000.0 + self._loop.time() + self.skew_s

    def monotonic(self) -> float:
        return self._loop.time() * self.rate

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.rate)


def run_virtually(seed: int, main: Callable[[VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    """Run `main(loop)` to its end on a fresh loop; everything it left behind is cancelled."""
    loop = VirtualLoop(seed)
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(main(loop))
    finally:
        loop.after_step = lambda: None
        loop.stands_still = 0
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        asyncio.set_event_loop(None)
        loop.close()
