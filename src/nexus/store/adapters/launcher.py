"""A filled form becomes a run or an endpoint: the same reading, packing and compiling as `nexus launch` does."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from nexus.deploy.core.jobsection import deployment
from nexus.deploy.service import Deploy
from nexus.infra.ignores import workspace_files
from nexus.infra.package import WORKSPACE_LIMIT_B, Package, pack
from nexus.kernel.errors import FileError
from nexus.kernel.identity import Principal
from nexus.launch.core.compile import compile_job
from nexus.launch.core.jobfile.convert import to_native
from nexus.launch.core.jobfile.reading import read_jobs
from nexus.launch.core.spec import JobSpec
from nexus.launch.model import Placement, RunPlan, Submission
from nexus.launch.service.launch import Launch
from nexus.store.model import Launched, Prepared, Template
from nexus.track.service.uploads import Uploads

_CHUNK_B = 1024 * 1024


class JobLauncher:
    """Implements `store.ports.Launcher` over Launch, Deploy and the project's blobs."""

    def __init__(self, launch: Launch, uploads: Uploads, deploy: Deploy | None = None) -> None:
        self._launch = launch
        self._uploads = uploads
        self._deploy = deploy

    async def prepare(self, who: Principal, template: Template, sets: Sequence[str]) -> Prepared:
        specs = read_jobs(template.job, file=template.file, name=template.name, overrides=sets)
        if len(specs) != 1:
            raise FileError("a template holds one job", file=template.file)
        spec = specs[0]
        plan = await self._compiled(who, template, spec)
        job = to_native(spec) if sets else template.job
        submission = Submission(name=spec.name, plan=plan, job=job, tags={"template": template.name})
        wanted = deployment(spec, plan, job) if spec.kind == "deploy" else None
        return Prepared(submission=submission, deployment=wanted)

    async def place(self, who: Principal, prepared: Prepared) -> Placement:
        return await self._launch.plan(who, prepared.submission)

    async def names(self, who: Principal) -> Mapping[str, str]:
        return {node.id: node.name for node in await self._launch.nodes(who)}

    async def submit(self, who: Principal, prepared: Prepared) -> Launched:
        if prepared.deployment is None or self._deploy is None:
            run = await self._launch.submit(who, prepared.submission)
            return Launched(kind="run", id=run.id, name=run.name)
        endpoint = await self._deploy.deploy(prepared.deployment, project=who.project, user=who.subject)
        return Launched(kind="endpoint", id=endpoint.name, name=endpoint.name)

    async def _compiled(self, who: Principal, template: Template, spec: JobSpec) -> RunPlan:
        if spec.workspace is None:
            return compile_job(spec)
        folder = Path(template.folder) / spec.workspace
        with tempfile.TemporaryDirectory() as place:
            target = Path(place) / "workspace"
            package = await asyncio.to_thread(_packed, folder, target)
            await self._uploads.put(who, package.digest, _chunks(target), limit_b=WORKSPACE_LIMIT_B)
        return compile_job(spec, workspace=package.digest, workspace_b=package.size_b, files=frozenset(package.files))


def _packed(folder: Path, target: Path) -> Package:
    return pack(folder, target, workspace_files(folder), limit_b=WORKSPACE_LIMIT_B)


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:  # a template's folder is small: a few reads do not hold the loop up
        while chunk := file.read(_CHUNK_B):
            yield chunk
