"""From the words of a job to the plan's: what every kind of job shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nexus.kernel.errors import UsageError
from nexus.launch.core.spec import HealthSpec, JobSpec, PortSpec, Resources, RoleSpec
from nexus.launch.model import GpuNeed, Health, Needs, Port, Retry, RolePlan, RunPlan


def needs_of(resources: Resources) -> Needs:
    """What one task needs of a node."""
    gpu = resources.gpu
    return Needs(
        cpu=resources.cpu,
        memory_b=resources.memory,
        disk_b=resources.disk,
        gpu=GpuNeed(count=gpu.count, names=gpu.name, memory_b=gpu.memory) if gpu else GpuNeed(),
        labels=dict(resources.labels),
        regions=resources.region,
        spot=resources.spot,
    )


def ports_of(ports: tuple[PortSpec, ...]) -> tuple[Port, ...]:
    """The ports a task listens on."""
    return tuple(Port(name=port.name, port=port.port) for port in ports)


def health_of(health: HealthSpec | None) -> Health | None:
    """When a task is ready."""
    if health is None:
        return None
    return Health(path=health.path, port=health.port, every_s=health.every, timeout_s=health.timeout)


def isolation_of(image: str | None, wanted: str | None) -> str:
    """How a task must be kept apart from its node; empty when it does not matter. Raises UsageError."""
    if image is not None and wanted not in {None, "container"}:
        raise UsageError(
            f"an `image` runs in a container, so `isolation: {wanted}` cannot be",
            hint="Leave `isolation` out: a container is kept apart already.",
            field="isolation",
        )
    if image is None and wanted == "container":
        raise UsageError(
            "`isolation: container` needs an `image`",
            hint="Name the image, or write `isolation: sandbox`, which needs none.",
            field="isolation",
        )
    return "container" if image is not None else "" if wanted in {None, "process"} else wanted


def role_plan(spec: JobSpec, name: str, *, env: Mapping[str, str] | None = None, **changes: Any) -> RolePlan:
    """A role that does what the job says; `changes` are fields of `RolePlan` that replace the job's, `env` adds to it.

    `count` is 1 unless given.
    """
    given: dict[str, Any] = {
        "needs": needs_of(spec.resources),
        "argv": spec.run if isinstance(spec.run, tuple) else (),
        "script": spec.run if isinstance(spec.run, str) else "",
        "setup": spec.setup,
        "image": spec.image,
        "isolation": isolation_of(spec.image, spec.isolation),
        "env": {**spec.env, **(env or {})},
        "ports": ports_of(spec.ports),
        "health": health_of(spec.health),
    }
    if "argv" in changes or "script" in changes:
        given |= {"argv": (), "script": ""}
    return RolePlan(name=name, **(given | changes))


def run_plan(spec: JobSpec, roles: tuple[RolePlan, ...], **changes: Any) -> RunPlan:
    """A plan of these roles with everything else as the job says; `changes` are fields of `RunPlan`."""
    given: dict[str, Any] = {
        "inputs": dict(spec.inputs),
        "outputs": spec.outputs,
        "secrets": spec.secrets,
        "network": spec.network,
        "placement": spec.placement or "",
        "max_price": spec.resources.max_price,
        "retry": Retry(max=spec.retry.max, on=spec.retry.on, backoff_s=spec.retry.backoff),
        "timeout_s": spec.timeout,
        "idle_stop_s": spec.idle_stop or None,
        "grace_s": spec.grace,
        "priority": spec.priority,
        "preemptible": spec.preemptible,
        "after": spec.after,
    }
    return RunPlan(kind=spec.kind, roles=roles, **(given | changes))


def listed_role(spec: JobSpec, role: RoleSpec) -> RolePlan:
    """A role that the job lists outright."""
    return role_plan(
        spec,
        role.name,
        env=role.env,
        count=role.count,
        needs=needs_of(role.resources or spec.resources),
        argv=role.run if isinstance(role.run, tuple) else (),
        script=role.run if isinstance(role.run, str) else "",
        setup=spec.setup if role.setup is None else role.setup,
        image=role.image or spec.image,
        isolation=isolation_of(role.image or spec.image, role.isolation or spec.isolation),
        ports=ports_of(role.ports),
        health=health_of(role.health),
        gang=role.gang,
        on_exit=role.on_exit,
    )


def need_command(spec: JobSpec) -> None:
    """Refuse a job that says nothing to run. Raises UsageError."""
    if not (spec.run.strip() if isinstance(spec.run, str) else spec.run):
        raise UsageError("the job says nothing to run", hint="Add `run:` with the command.", field="run")
