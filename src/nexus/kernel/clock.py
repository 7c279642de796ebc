"""Time as an argument: services take a `Clock`, so that a simulation can bring a virtual one."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Wall time for people, monotonic time for leases, and waiting."""

    def now(self) -> float:
        """Seconds since 1970, UTC. May jump; never measure a lease with it."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait at least `seconds`."""
        ...
