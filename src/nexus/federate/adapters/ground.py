"""What a simulation's schedule works with: an engine, and devices as the settings and a trace file say."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from nexus.federate.core.algorithm import State
from nexus.federate.core.device import Devices, read_trace
from nexus.federate.core.parts import build
from nexus.federate.core.schedule import Ground, Train
from nexus.federate.core.task import Task
from nexus.federate.core.worker import Worker
from nexus.federate.model import Part, Settings
from nexus.kernel.errors import FileError


def ground(worker: Worker, task: Task, state: State, train: Train) -> Ground:
    """Raises FileError for a bad trace."""
    algorithm, composition = worker.algorithm, worker.composition

    @cache
    def samples(client: int) -> int:
        return len(task.data(client)[1])

    lengths = [*algorithm.sends(state).values(), *(len(vector) for vector in algorithm.plan(state).values())]
    clocked = getattr(composition.schedule, "clocked", False)
    return Ground(composition, train, samples, 4 * sum(lengths), _devices(worker.settings, clocked))


def _devices(settings: Settings, clocked: bool) -> Devices | None:
    """Those of the settings. A trace alone, or a schedule that goes by the clock, has random ones beside it."""
    if settings.devices is None and not settings.trace and not clocked:
        return None
    devices: Devices = build("devices", settings.devices or Part("random"), seed=settings.seed)
    if not settings.trace:
        return devices
    path = Path(settings.trace)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return read_trace(file, str(path), devices)
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(
            f"the trace cannot be read: {error}", hint="--set trace=PATH of a CSV file.", file=str(path)
        ) from error
