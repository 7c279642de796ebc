"""The door to tracking: what its parts share, and what launch asks of it."""

from __future__ import annotations

from collections.abc import Callable

from nexus.infra.hints import Hints
from nexus.kernel.blobs import Blobs
from nexus.kernel.clock import Clock
from nexus.kernel.records import Records
from nexus.track.ports import LogStore, MetricStore, Runs
from nexus.track.service.access import Access
from nexus.track.service.artifacts import Artifacts
from nexus.track.service.logs import Logs
from nexus.track.service.metrics import Metrics
from nexus.track.service.models import Models
from nexus.track.service.uploads import Uploads


class Track:
    """Metrics, logs, artifacts and models of every run.

    `log_end` and `resolve` are what `launch` needs of a tracker. Ingest methods take the owner that a lease proved;
    queries take the caller's `Principal`, and see nothing of other projects.
    """

    def __init__(
        self,
        records: Records,
        blobs: Blobs,
        metrics: MetricStore,
        logs: LogStore,
        clock: Clock,
        entropy: Callable[[int], bytes],
        hints: Hints,
        runs: Runs,
    ) -> None:
        access = Access(records, runs, clock)
        self.uploads = Uploads(records, blobs, clock, entropy)
        self.logs = Logs(access, logs, clock, hints)
        self.metrics = Metrics(access, metrics, hints)
        self.models = Models(access, records, self.uploads, clock, entropy)
        self.artifacts = Artifacts(access, records, self.uploads, metrics, self.models, clock, entropy, hints)
        self._log_store = logs

    async def log_end(self, task_id: str) -> int:
        """How many bytes of this task's log are kept: its end may be shown once they are as many as its agent spooled.

        Launch's `Tracker` port.
        """
        return await self._log_store.end(task_id)

    async def resolve(self, project: str, reference: str) -> str:
        """The digest that `model://name@version` or `artifact://run/name` means in this project.

        Launch's `Tracker` port. Raises UsageError for what is no reference, NotFoundError for what is not there.
        """
        return (await self.artifacts.resolve(project, reference)).digest
