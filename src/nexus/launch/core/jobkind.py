"""How a kind of job plugs in: a typed section of the job file, and a pure function to a `RunPlan`."""

from __future__ import annotations

from typing import Protocol, TypeVar

from pydantic import BaseModel

from nexus.kernel.registry import Registry
from nexus.launch.core.spec import JobSpec
from nexus.launch.model import RunPlan

S = TypeVar("S", bound=BaseModel)


class JobKind(Protocol[S]):
    """A kind of job. Its name is its key in `KINDS`, the value of `kind:`, and the name of its section.

    A job of this kind without the section gets `section()`: give every field a default, or its absence is an error of
    the file. A job that lists its `roles:` outright never comes here.
    """

    @property
    def section(self) -> type[S]:
        """The model of the section; derive it from `nexus.launch.core.spec.Section` (unknown keys are errors)."""
        ...

    def compile(self, spec: JobSpec, section: S) -> RunPlan:
        """What to run; build it with `nexus.launch.core.roles.role_plan` and `run_plan`. Pure.

        `compile_job` adds the workspace and which files the set-up reads. Raises UsageError, with `field="a.b"` when
        it knows which key is wrong: readers of files then point at it.
        """
        ...


# kind -> where it is. Launch imports none of them: the name is all it knows of the slices above.
KINDS: Registry[JobKind[BaseModel]] = Registry(
    "nexus.job_kinds",
    {
        "command": "nexus.launch.core.kinds.command:JOB_KIND",
        "train": "nexus.train.core.jobsection:JOB_KIND",
        "federate": "nexus.federate.core.jobsection:JOB_KIND",
        "deploy": "nexus.deploy.core.jobsection:JOB_KIND",
        "session": "nexus.launch.core.kinds.session:JOB_KIND",
    },
)
