"""Measure what running tasks use, every few seconds, into the metrics that are shipped anyway."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nexus.agent.core.meters import system_metrics
from nexus.agent.model import LocalTask, Reading
from nexus.agent.ports import Meter, Spool
from nexus.kernel.clock import Clock
from nexus.launch.model import TaskState

METER_S = 10.0


class Metering:
    """Of every task that runs here. A disk that is full costs readings, nothing else."""

    def __init__(self, meter: Meter, spool: Spool, clock: Clock, every_s: float = METER_S) -> None:
        self._meter = meter
        self._spool = spool
        self._clock = clock
        self._every_s = every_s
        self._last: dict[str, Reading] = {}

    async def run(self, tasks: Callable[[], Mapping[str, LocalTask]]) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep(self._every_s)
            running = {name: task for name, task in tasks().items() if task.state is TaskState.RUNNING}
            self._last = {name: reading for name, reading in self._last.items() if name in running}
            for name, task in running.items():
                self._measure(name, task)

    def _measure(self, name: str, task: LocalTask) -> None:
        now = self._meter(task.order)
        if now is None:
            return
        values = system_metrics(self._last.get(name), now)
        self._last[name] = now
        if values:
            try:
                self._spool.record(task.order, values, int(now.lived_s))
            except OSError:
                return
