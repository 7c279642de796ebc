"""The real clock and the real dice."""

from __future__ import annotations

import os
import time


class SystemClock:
    """Implements `kernel.clock.Clock` on this machine."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        import asyncio  # most commands never wait so, and start sooner without it

        await asyncio.sleep(seconds)


def system_entropy(count: int) -> bytes:
    """`count` unpredictable bytes, for ids and tokens."""
    return os.urandom(count)
