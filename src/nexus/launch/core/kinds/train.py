"""`kind: train`: a gang of workers that find each other, each with one process or one for each accelerator."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from nexus.launch.core.jobkind import JobKind
from nexus.launch.core.roles import need_command, role_plan, run_plan
from nexus.launch.core.spec import JobSpec, Section
from nexus.launch.model import Port, RunPlan

RENDEZVOUS = Port("rendezvous")


class TrainSection(Section):
    """What only a training job has."""

    workers: int | None = Field(default=None, ge=1, le=10_000)
    """How many workers; else one on each of `nodes`. More workers than machines share them."""


class Train:
    """One role `worker`, a gang. The agent tells every worker all addresses, and what torchrun's launcher reads."""

    section = TrainSection

    def compile(self, spec: JobSpec, section: TrainSection) -> RunPlan:
        """Raises UsageError without a command."""
        need_command(spec)
        worker = role_plan(spec, "worker", count=section.workers or spec.nodes, gang=True)
        return run_plan(spec, (replace(worker, ports=(RENDEZVOUS, *worker.ports)),))


JOB_KIND: JobKind[TrainSection] = Train()
