"""A small house around `Track` for tests: real stores in a folder, runs and leases from dictionaries."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nexus.infra.blobs import open_blobs
from nexus.infra.clock import SystemClock, system_entropy
from nexus.infra.hints import Hints
from nexus.infra.records.memory import MemoryRecords
from nexus.kernel.blobs import Blobs
from nexus.kernel.errors import FencedError
from nexus.kernel.identity import Principal, PrincipalKind, Role
from nexus.kernel.records import Records
from nexus.track.adapters.log_files import LogFiles
from nexus.track.adapters.metrics_sql import SqlMetrics, open_metrics
from nexus.track.frames import write_points
from nexus.track.model import StreamOwner
from nexus.track.ports import RunStatus
from nexus.track.service import Track

ALICE = Principal(PrincipalKind.USER, "alice", "red", Role.MEMBER)
VIEWER = Principal(PrincipalKind.USER, "vera", "red", Role.VIEWER)
BOB = Principal(PrincipalKind.USER, "bob", "blue", Role.ADMIN)
NODE = Principal(PrincipalKind.NODE, "node_1", "red")
GUEST = Principal(PrincipalKind.NODE, "node_1", "green")  # the same, as if it were shared by another project
PEOPLE = {"alice": ALICE, "vera": VIEWER, "bob": BOB, "node": NODE, "guest": GUEST}

_numbers = itertools.count(1)


def new_task() -> str:
    return f"task_{next(_numbers):013d}"


def owner(run: str = "run_1", *, task: str = "", role: str = "worker", index: int = 0, attempt: int = 0) -> StreamOwner:
    return StreamOwner(project="red", run=run, task=task or new_task(), role=role, index=index, attempt=attempt)


def piece(steps: range, **columns: list[float]) -> bytes:
    """Frames as a job's recorder writes them."""
    times = [1_700_000_000.0 + step for step in steps]
    return b"".join(write_points(list(columns), list(steps), times, list(columns.values())))


@dataclass
class KnownRuns:
    """`ports.Runs` from a dictionary."""

    known: dict[str, RunStatus] = field(default_factory=dict)

    def add(self, run: str, *, project: str = "red", name: str = "", ended: bool = False) -> None:
        self.known[run] = RunStatus(run, project, name or run, "succeeded" if ended else "running", ended)

    async def find(self, project: str, run: str) -> RunStatus | None:
        found = (status for status in self.known.values() if status.project == project)
        return next((status for status in found if run in {status.id, status.name}), None)


@dataclass
class KnownLeases:
    """`ports.Leases` from a dictionary: one owner for each task, at epoch 1."""

    known: dict[str, StreamOwner] = field(default_factory=dict)

    async def owner(self, node_id: str, task_id: str, epoch: int) -> StreamOwner:
        if task_id not in self.known or epoch != 1:
            raise FencedError("this lease is not yours")
        return self.known[task_id]


@dataclass
class House:
    """What a test may touch."""

    track: Track
    metrics: SqlMetrics
    logs: LogFiles
    records: Records
    blobs: Blobs
    hints: Hints
    runs: KnownRuns
    leases: KnownLeases

    def close(self) -> None:
        self.metrics.close()


def build(folder: Path, **other: Any) -> House:
    records, blobs, hints, runs = MemoryRecords(), open_blobs("memory:"), Hints(), KnownRuns()
    metrics = open_metrics(f"sqlite:///{folder / 'metrics.db'}")
    logs = LogFiles(folder / "logs", **other)
    for number in range(1, 10):
        runs.add(f"run_{number}", name=f"job{number}")
    runs.add("run_blue", project="blue")
    track = Track(records, blobs, metrics, logs, SystemClock(), system_entropy, hints, runs)
    return House(track, metrics, logs, records, blobs, hints, runs, KnownLeases())


def wait_for(condition: Any, timeout_s: float = 10.0) -> None:
    """Poll until `condition()` is true."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
