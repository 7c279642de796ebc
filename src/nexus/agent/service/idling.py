"""Notice that a task does nothing: no cpu to speak of, nobody inside, no byte over its forwarded ports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nexus.agent.core.idleness import Idleness, looked
from nexus.agent.ports import UsedCpu
from nexus.kernel.clock import Clock
from nexus.launch.protocol import TaskOrder

_LOOKS = 20  # in the time after which it counts as idle
_LONGEST_S = 15.0


@dataclass(frozen=True, slots=True)
class Pulse:
    """What there is to see of a task's life."""

    used_cpu_s: UsedCpu
    used: Callable[[str], float | None]  # when somebody last was inside, on the agent's clock


class Idling:
    """One task under watch. An agent that was started again begins to count anew."""

    def __init__(self, order: TaskOrder, pulse: Pulse, clock: Clock) -> None:
        self._order = order
        self._pulse = pulse
        self._clock = clock
        self._limit_s = order.idle_stop_s or 0.0
        self._seen: Idleness | None = None

    def look(self) -> bool:
        """Whether it is idle for as long as its order allows. Costs something only now and then."""
        now = self._clock.monotonic()
        if self._seen is None or now - self._seen.at >= min(self._limit_s / _LOOKS, _LONGEST_S):
            used = self._pulse.used(self._order.task)
            self._seen = looked(self._seen, self._pulse.used_cpu_s(self._order), used, now)
        return now - self._seen.since >= self._limit_s
