"""`kind: train`: a gang of workers that find each other, and go on from their checkpoint after a failure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from pydantic import Field, model_validator

from nexus.launch.core.jobkind import JobKind
from nexus.launch.core.roles import need_command, role_plan, run_plan
from nexus.launch.core.spec import JobSpec, Section
from nexus.launch.model import RENDEZVOUS, Port, Retry, RunPlan

WORKER = "worker"
# What the section says travels to `nexus.train.checkpoint` in these variables.
EVERY, KEEP = "NEXUS_CHECKPOINT_EVERY", "NEXUS_CHECKPOINT_KEEP"
# What a checkpoint can make good. An exit too, as for torchrun's --max-restarts: a worker whose peer was killed ends
# with an error of its own, and which of the two is seen first is chance.
_INTERRUPTIONS = ("node_lost", "spot_reclaimed", "signal", "exit")


class CheckpointSection(Section):
    """How `nexus.train.checkpoint` behaves in this job. Also written as a number alone: `every`."""

    shorthand = ({"type": "integer", "minimum": 1},)

    every: int | None = Field(default=None, ge=1, le=1_000_000_000)
    """Steps between two checkpoints; else what the script says."""
    keep: int = Field(default=2, ge=1, le=1000)
    """How many are kept; older ones are removed once a newer one is safe."""
    retries: int = Field(default=3, ge=0, le=1000)
    """How often an interrupted run goes on from its checkpoint, where the job has no `retry:` of its own."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"every": value} if isinstance(value, int) and not isinstance(value, bool) else value


class TrainSection(Section):
    """What only a training job has."""

    workers: int | None = Field(default=None, ge=1, le=10_000)
    """How many workers; else one on each of `nodes`. More workers than machines share them."""
    parallel: Literal["ddp"] = "ddp"
    """ddp: every worker holds the whole model and averages gradients (torch.distributed)."""
    checkpoint: CheckpointSection | None = None
    """Crash-safe checkpoints; with it, an interrupted run is tried again and goes on where it was."""


class Train:
    """One role `worker`, a gang. The agent tells every worker all addresses, and what torchrun's launcher reads."""

    section = TrainSection

    def compile(self, spec: JobSpec, section: TrainSection) -> RunPlan:
        """Raises UsageError without a command."""
        need_command(spec)
        env = {} if section.checkpoint is None else _environment(section.checkpoint)
        worker = role_plan(spec, WORKER, env=env, count=section.workers or spec.nodes, gang=True)
        if all(port.name != RENDEZVOUS for port in worker.ports):
            worker = replace(worker, ports=(Port(RENDEZVOUS), *worker.ports))
        plan = run_plan(spec, (worker,))
        return replace(plan, retry=_retry(spec, plan.retry, section))


def _environment(checkpoint: CheckpointSection) -> dict[str, str]:
    every = {} if checkpoint.every is None else {EVERY: str(checkpoint.every)}
    return {**every, KEEP: str(checkpoint.keep)}


def _retry(spec: JobSpec, retry: Retry, section: TrainSection) -> Retry:
    """What the job says; else, where there are checkpoints, that interruptions are tried again."""
    if section.checkpoint is None or "retry" in spec.model_fields_set:
        return retry
    return replace(retry, max=section.checkpoint.retries, on=_INTERRUPTIONS)


JOB_KIND: JobKind[TrainSection] = Train()
