"""From a job file, or the words of a command line, to what the server is handed: packed, uploaded, compiled."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nexus.deploy.core.jobsection import BUNDLED, DeploySection, deployment
from nexus.deploy.model import Deployment
from nexus.infra.http_client import HttpClient
from nexus.infra.ignores import workspace_files
from nexus.infra.package import pack
from nexus.kernel.errors import FileError, NotFoundError, UsageError
from nexus.kernel.ids import to_name
from nexus.launch.core.compile import compile_job
from nexus.launch.core.jobfile.reading import read_jobs
from nexus.launch.core.spec import JobSpec
from nexus.track.faces.client import TrackClient

LIMIT_B = 2_000_000_000  # of a workspace


def reference(model: str) -> str:
    """`digits@2` as `model://digits@2`; what has a scheme stays as it is."""
    return model if "://" in model or not model else f"model://{model}"


def from_file(http: HttpClient, path: Path, overrides: Sequence[str]) -> Deployment:
    """The deployment that a job file describes. Raises FileError, UsageError, NotFoundError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as problem:
        raise NotFoundError(f"there is no file {path}", hint="Name a job file with `kind: deploy`.") from problem
    except (OSError, UnicodeDecodeError) as problem:
        raise FileError(f"it cannot be read: {problem}", file=str(path)) from problem
    jobs = read_jobs(text, file=str(path), name=path.stem, overrides=overrides)
    if len(jobs) != 1:
        raise FileError(f"it holds {len(jobs)} jobs", hint="Deploy one at a time.", file=str(path))
    return _handed_in(http, jobs[0], path.parent, text)


def from_words(http: HttpClient, name: str, workspace: Path | None, **section: Any) -> Deployment:
    """The deployment that options describe; `section` holds fields of the job file's `deploy`. Raises UsageError."""
    filled = DeploySection(endpoint=name, **section)
    spec = JobSpec(
        name=to_name(name),
        kind="deploy",
        workspace="." if workspace else None,
        sections={"deploy": filled},
    )
    return _handed_in(http, spec, workspace or Path(), "")


def bundled(name: str, model: str = "smollm2") -> Deployment:
    """An endpoint over a small language model that a package ships: nothing to upload."""
    section = DeploySection(endpoint=name, engine="llama", model=BUNDLED + model)
    spec = JobSpec(name=to_name(name), kind="deploy", workspace=None, sections={"deploy": section})
    return deployment(spec, compile_job(spec))


def _handed_in(http: HttpClient, spec: JobSpec, folder: Path, text: str) -> Deployment:
    if spec.kind != "deploy":
        raise UsageError(f"this job's kind is {spec.kind}, not deploy", hint="Run it with: nexus launch FILE")
    if spec.workspace is None:
        return deployment(spec, compile_job(spec), text)
    root = folder / spec.workspace
    if not root.is_dir():
        raise NotFoundError(f"there is no folder {root}", hint="`workspace` names the folder that is sent.")
    with tempfile.TemporaryDirectory() as draft:
        packed = pack(root, Path(draft) / "workspace", workspace_files(root), limit_b=LIMIT_B)
        TrackClient(http).upload_blob(Path(draft) / "workspace")
    plan = compile_job(spec, workspace=packed.digest, workspace_b=packed.size_b, files=packed.files)
    return deployment(spec, plan, text)
