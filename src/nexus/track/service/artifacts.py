"""Artifacts: what runs leave behind, found again by run and name. A model among them becomes a version."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from nexus.infra.hints import Hints
from nexus.kernel.clock import Clock
from nexus.kernel.errors import NotFoundError
from nexus.kernel.events import Event
from nexus.kernel.identity import Principal, Role
from nexus.kernel.ids import new_id, to_name
from nexus.kernel.records import Records
from nexus.track.model import (
    ARTIFACTS,
    Artifact,
    ArtifactKind,
    ArtifactReport,
    ModelVersion,
    StreamOwner,
    check_artifact_name,
    check_digest,
    parse_reference,
)
from nexus.track.ports import MetricStore
from nexus.track.service.access import Access
from nexus.track.service.models import Models, finite
from nexus.track.service.uploads import Uploads


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a reference means: content, and whether it is a package (a folder) or one file's bytes."""

    digest: str
    size_b: int
    packed: bool


class Artifacts:
    """The artifacts of all runs."""

    def __init__(
        self,
        access: Access,
        records: Records,
        uploads: Uploads,
        metrics: MetricStore,
        models: Models,
        clock: Clock,
        entropy: Callable[[int], bytes],
        hints: Hints,
    ) -> None:
        self._access = access
        self._records = records
        self._uploads = uploads
        self._metrics = metrics
        self._models = models
        self._clock = clock
        self._entropy = entropy
        self._hints = hints
        self._one = asyncio.Lock()  # a report that comes twice at once must not become two versions

    async def report(self, owner: StreamOwner, report: ArtifactReport) -> Artifact:
        """Register an output that was uploaded. The same report again changes nothing.

        `kind` model also registers the next version of the model of that name. Raises NotFoundError if the content
        was not uploaded by this project.
        """
        check_artifact_name(report.name)
        size = await self._uploads.size(owner.project, check_digest(report.digest))
        await self._access.remember(owner)
        async with self._one:
            where = {"task": owner.task, "name": report.name}
            newest = await self._records.find(ARTIFACTS, where, limit=1, newest=True)
            if newest and (newest[0].digest, newest[0].kind) == (report.digest, report.kind):
                return newest[0]
            artifact = self._artifact(owner, report, size)
            if report.kind is ArtifactKind.MODEL:
                await self._models.add(await self._version(artifact), artifact=artifact, actor=owner.run)
            else:
                data = {"artifact": artifact.id, "name": artifact.name, "kind": str(artifact.kind)}
                event = Event("artifact.kept", owner.run, owner.project, artifact.created, owner.run, data)
                await self._records.apply((ARTIFACTS, artifact), events=[event])
        self._hints.hint(f"artifacts:{owner.run}")
        return artifact

    def _artifact(self, owner: StreamOwner, report: ArtifactReport, size_b: int) -> Artifact:
        return Artifact(
            id=new_id("art", self._entropy(8)),
            project=owner.project,
            created=self._clock.now(),
            run=owner.run,
            task=owner.task,
            name=report.name,
            digest=report.digest,
            size_b=size_b,
            path=report.path[:1000],
            packed=report.packed,
            kind=report.kind,
            meta=report.meta,
        )

    async def _version(self, artifact: Artifact) -> ModelVersion:
        """The version that this artifact becomes, with the run's parameters and numbers as they are now."""
        numbers: dict[str, float] = {}
        for series in sorted(await self._metrics.series([artifact.run]), key=lambda one: one.at):
            numbers[series.key] = series.value
        return ModelVersion(
            id=new_id("ver", self._entropy(8)),
            project=artifact.project,
            created=artifact.created,
            model=to_name(artifact.name),
            number=0,
            digest=artifact.digest,
            size_b=artifact.size_b,
            packed=artifact.packed,
            artifact=artifact.id,
            run=artifact.run,
            task=artifact.task,
            params=await self._metrics.params(artifact.run),
            metrics=finite(numbers),
            meta=artifact.meta,
        )

    # ------------------------------------------------------------------ reading

    async def of_run(self, principal: Principal, run: str, *, limit: int = 1000) -> list[Artifact]:
        """A run's artifacts, oldest first. Raises NotFoundError."""
        status = await self._access.run(principal, run)
        return await self._records.find(ARTIFACTS, {"project": status.project, "run": status.id}, limit=limit)

    async def get(self, principal: Principal, artifact_id: str) -> Artifact:
        """One artifact by id. Raises NotFoundError."""
        principal.need(Role.VIEWER)
        found = await self._records.get(ARTIFACTS, artifact_id)
        if found is None or found.project != principal.project:
            raise NotFoundError(f"no artifact {artifact_id}", hint="nexus artifacts list RUN shows a run's.")
        return found

    async def find(self, project: str, run: str, name: str) -> Artifact:
        """The newest artifact of that name of a run (id or name). Raises NotFoundError."""
        status = await self._access.run_in(project, run)
        where = {"project": project, "run": status.id, "name": name}
        found = await self._records.find(ARTIFACTS, where, limit=1, newest=True)
        if not found:
            raise NotFoundError(f"the run {run} has no artifact {name!r}", hint=f"nexus artifacts list {run}")
        return found[0]

    async def content(
        self, principal: Principal, artifact_id: str, start: int = 0
    ) -> tuple[Artifact, int, AsyncIterator[bytes]]:
        """An artifact, its size, and its bytes from `start` on. Raises NotFoundError."""
        artifact = await self.get(principal, artifact_id)
        size, chunks = await self._uploads.open(principal.project, artifact.digest, start)
        return artifact, size, chunks

    async def resolve(self, project: str, reference: str) -> Resolved:
        """What `model://name@version` or `artifact://run/name` means. Raises UsageError, NotFoundError."""
        wanted = parse_reference(reference)
        if wanted.scheme == "model":
            version = await self._models.find_version(project, wanted.owner, wanted.item)
            return Resolved(version.digest, version.size_b, version.packed)
        artifact = await self.find(project, wanted.owner, wanted.item)
        return Resolved(artifact.digest, artifact.size_b, artifact.packed)
