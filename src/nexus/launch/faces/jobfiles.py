"""Job files from disk, and the folder that goes with them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nexus.infra.ignores import workspace_files
from nexus.infra.package import WORKSPACE_LIMIT_B, Package, Progress, pack
from nexus.kernel.errors import FileError, NotFoundError, UsageError
from nexus.launch.core.compile import compile_job
from nexus.launch.core.jobfile.argv import job_from_argv
from nexus.launch.core.jobfile.convert import to_native
from nexus.launch.core.jobfile.reading import read_jobs
from nexus.launch.core.jobfile.tree import MAX_TEXT_B
from nexus.launch.core.spec import JobSpec
from nexus.launch.model import Submission

NAMES = ("job.yaml", "job.yml")
_PROGRAMS = {".py": "python", ".sh": "sh", ".ipynb": "jupyter execute"}


@dataclass(frozen=True, slots=True)
class Jobs:
    """What a file, or a command line, asks for: in an order that can run, from `folder`."""

    specs: tuple[JobSpec, ...]
    folder: Path
    text: str


def find_file(path: Path) -> Path:
    """The job file itself, or the one in a folder. Raises NotFoundError, UsageError."""
    if path.is_dir():
        found = next((path / name for name in NAMES if (path / name).is_file()), None)
        if found is None:
            raise NotFoundError(f"the folder {path} has no job.yaml", hint="Name the job file.")
        return found
    if not path.exists():
        raise NotFoundError(
            f"there is no file {path}", hint="To run a command without a file: nexus launch -- python train.py"
        )
    if path.suffix in _PROGRAMS:
        command = f"nexus launch -- {_PROGRAMS[path.suffix]} {path}"
        raise UsageError(f"{path} is a program, not a job file", hint=f"Run it with: {command}")
    return path


def read_file(path: Path, overrides: Sequence[str] = ()) -> Jobs:
    """The jobs of a file. Raises NotFoundError, FileError, UsageError."""
    file = find_file(path)
    try:
        with file.open("rb") as opened:
            text = opened.read(MAX_TEXT_B + 1).decode("utf-8-sig")
    except OSError as error:
        raise FileError(
            f"it cannot be read: {error.strerror}", file=str(file), hint="Check its permissions."
        ) from error
    except UnicodeDecodeError as error:
        raise FileError("it is not UTF-8 text", file=str(file), hint="Save the file as UTF-8 text.") from error
    folder = file.resolve().parent
    specs = read_jobs(text, file=str(file), name=_default_name(file), overrides=overrides)
    return Jobs(tuple(specs), folder, text)


def _default_name(file: Path) -> str:
    return file.resolve().parent.name if file.name in NAMES else file.stem


def read_argv(argv: Sequence[str], overrides: Sequence[str] = ()) -> Jobs:
    """The job of a command line, in the current folder; a home folder is never sent whole. Raises UsageError."""
    spec = job_from_argv(argv, overrides=overrides)
    here = Path.cwd()
    if spec.workspace == "." and here in {Path.home(), Path(here.anchor)}:
        words = f"{here} is not sent with the job; start from a project's folder, and it is"
        spec = spec.model_copy(update={"workspace": None, "warnings": (*spec.warnings, words)})
    return Jobs((spec,), here, to_native(spec))


def as_overrides(name: str | None, env: Iterable[str]) -> list[str]:
    """`--name` and `--env NAME=VALUE` (or NAME alone, from this environment) as overrides. Raises UsageError."""
    found = [] if name is None else [f"name={json.dumps(name)}"]
    for text in env:
        variable, equals, value = text.partition("=")
        if not equals and variable not in os.environ:
            raise UsageError(f"{variable} is not set here", hint=f"Give it a value: --env {variable}=VALUE")
        found.append(f"env.{variable}={json.dumps(value if equals else os.environ[variable])}")
    return found


def submission_of(
    spec: JobSpec, jobs: Jobs, target: Path, progress: Progress | None = None
) -> tuple[Submission, Package | None]:
    """A job ready to be handed in, once the package at `target` (None: there is none) has been uploaded.

    Raises like `pack_workspace`; UsageError for an endpoint, which is no run.
    """
    if spec.kind == "deploy":
        raise UsageError(f"{spec.name} is of kind deploy", hint="An endpoint is made with client.endpoints.deploy.")
    package = pack_workspace(spec, jobs.folder, target, progress)
    if package is None:
        plan = compile_job(spec)
    else:
        plan = compile_job(spec, workspace=package.digest, workspace_b=package.size_b, files=package.files)
    return Submission(name=spec.name, plan=plan, job=jobs.text), package


def waiting_for(submission: Submission, ids: Mapping[str, str]) -> Submission:
    """With the ids of the runs that it waits for, where its file named jobs beside it."""
    after = tuple(ids.get(other, other) for other in submission.plan.after)
    return replace(submission, plan=replace(submission.plan, after=after))


def pack_workspace(spec: JobSpec, folder: Path, target: Path, progress: Progress | None = None) -> Package | None:
    """Pack the job's folder into the file `target`; None when the job sends none, or there is nothing in it.

    Raises NotFoundError, UsageError (a link leads out), LimitError with the largest files.
    """
    if spec.workspace is None:
        return None
    root = folder / spec.workspace
    if not root.is_dir():
        raise NotFoundError(f"there is no folder {root}", hint="`workspace` names the folder that is sent.")
    files = workspace_files(root)
    return pack(root, target, files, limit_b=WORKSPACE_LIMIT_B, progress=progress) if files else None
