"""From a job to a plan: pure, the same job gives the same plan."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace

from nexus.kernel.errors import UsageError
from nexus.launch.core.jobkind import KINDS
from nexus.launch.core.roles import listed_role, run_plan
from nexus.launch.core.spec import JobSpec
from nexus.launch.model import RolePlan, RunPlan

_WORD = re.compile(r"[^\s'\"`;|&<>()=,]+")
_REQUIREMENTS = re.compile(r"(requirements/)?requirements[^/]*\.(txt|in)")
_PROJECT = frozenset({"pyproject.toml", "setup.py", "setup.cfg", "uv.lock"})


def compile_job(
    spec: JobSpec, *, workspace: str | None = None, workspace_b: int = 0, files: Collection[str] = ()
) -> RunPlan:
    """What to run for this job.

    `workspace` is the SHA-256 of the packed folder, `workspace_b` its size in bytes, `files` the paths in it: those
    that a role's set-up names become part of the key of its cached environment. Raises UsageError, with `field`.
    """
    plan = _plan(spec)
    roles = tuple(replace(role, setup_files=setup_files(role, files)) for role in plan.roles)
    return replace(plan, roles=roles, workspace=workspace, workspace_b=workspace_b)


def _plan(spec: JobSpec) -> RunPlan:
    if spec.roles:
        return _listed(spec)
    kind = KINDS.get(spec.kind)
    return kind.compile(spec, spec.sections.get(spec.kind) or kind.section())


def _listed(spec: JobSpec) -> RunPlan:
    names = [role.name for role in spec.roles]
    for index, role in enumerate(spec.roles):
        if role.name in names[:index]:
            raise UsageError(f"two roles are called {role.name!r}", field=f"roles.{index}.name")
        if not role.run:
            raise UsageError(f"the role {role.name} says nothing to run", field=f"roles.{index}")
    if spec.run:
        raise UsageError(
            "`run` and `roles` cannot stand together", hint="Move the command into a role's `run`.", field="run"
        )
    return run_plan(spec, tuple(listed_role(spec, role) for role in spec.roles))


def setup_files(role: RolePlan, files: Collection[str]) -> tuple[str, ...]:
    """The workspace's files that a role's set-up depends on.

    Those that it names, every requirements file (the set-up may run a script that reads them), and, when it installs
    the project itself (`pip install .`), the files that declare the project's dependencies.
    """
    if not role.setup:
        return ()
    named = {word.removeprefix("./") for word in _WORD.findall(role.setup)}
    if "." in role.setup.split():
        named |= _PROJECT
    return tuple(sorted(path for path in files if path in named or _REQUIREMENTS.fullmatch(path)))
