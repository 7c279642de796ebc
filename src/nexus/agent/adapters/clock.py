"""The agent's clock: the same one that shims read their leases on."""

from __future__ import annotations

from nexus.agent.adapters.shim.formats import now_s
from nexus.infra.clock import SystemClock


class LeaseClock(SystemClock):
    """Its monotonic time counts while the machine sleeps, where the system has such a clock: leases do end then."""

    def monotonic(self) -> float:
        return now_s()
