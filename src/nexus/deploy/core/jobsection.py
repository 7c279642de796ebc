"""`kind: deploy`: a model behind an endpoint, as replicas of one role."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import Field, JsonValue

from nexus.deploy.core.adoption import ENDPOINT_VARIABLE, ENGINE_VARIABLE
from nexus.deploy.core.engines import engine
from nexus.deploy.model import MODEL_INPUT, PORT, REPLICA, Deployment, Limits
from nexus.kernel.errors import UsageError
from nexus.launch.core.jobkind import JobKind
from nexus.launch.core.roles import health_of, needs_of, role_plan, run_plan
from nexus.launch.core.spec import JobSpec, Section
from nexus.launch.model import Health, OnExit, Port, RunPlan

BUNDLED = "bundled://"  # weights that a Python package ships, such as bundled://smollm2


class DeploySection(Section):
    """What only a deployment has."""

    endpoint: str = ""
    """The endpoint's name; else the job's."""
    model: str = ""
    """What is served: model://NAME@VERSION from the registry, or bundled://smollm2."""
    engine: Literal["predictor", "llama", "command"] = "predictor"
    """predictor: a Python class; llama: a GGUF file by llama.cpp; command: this job's own `run`."""
    predictor: str = ""
    """For the engine predictor: module:Class in the workspace."""
    replicas: int = Field(default=1, ge=1, le=1000)
    """How many serve at once."""
    context: int = Field(default=4096, ge=256, le=1_048_576)
    """For the engine llama: tokens of context, shared by its slots."""
    threads: int = Field(default=0, ge=0, le=256)
    """For the engine llama: processor threads; 0: half of the machine's."""
    pure: bool = True
    """Whether a request may be sent again, before its first byte came back, when its replica dies."""
    max_inflight: int | None = Field(default=None, ge=1, le=100_000)
    """Requests at once per replica; more are answered 429."""
    timeout: float | None = Field(default=None, gt=0, le=86_400)
    """Seconds for one whole answer."""
    example: JsonValue = None
    """Inputs to try: what `nexus endpoints call` sends when you give none."""


class Deploy:
    """One role `replica` that is restarted when it ends, with a port and a health check."""

    section = DeploySection

    def compile(self, spec: JobSpec, section: DeploySection) -> RunPlan:
        """Raises UsageError, with `field`."""
        traits = engine(section.engine)
        changes = {} if section.engine == "command" else {"argv": _argv(spec, section)}
        if section.engine == "command" and not spec.run:
            raise UsageError(
                "the job says nothing to run", hint="Add `run:`, or choose another deploy.engine.", field="run"
            )
        role = role_plan(
            spec,
            REPLICA,
            env={ENDPOINT_VARIABLE: endpoint_name(spec, section), ENGINE_VARIABLE: section.engine},
            count=section.replicas,
            needs=needs_of(spec.resources),
            ports=_ports(spec),
            health=health_of(spec.health) or Health(path=traits.health, port=PORT, timeout_s=300.0),
            on_exit=OnExit.RESTART,
            **changes,
        )
        inputs = dict(spec.inputs)
        if section.model.startswith("model://"):
            inputs[MODEL_INPUT] = section.model
        return run_plan(spec, (role,), inputs=inputs)


def _ports(spec: JobSpec) -> tuple[Port, ...]:
    named = [Port(name=port.name, port=port.port) for port in spec.ports]
    return tuple(named) if any(port.name == PORT for port in named) else (Port(PORT), *named)


def _argv(spec: JobSpec, section: DeploySection) -> tuple[str, ...]:
    """The command of a replica; where its model lies, its environment says (see deploy.serve)."""
    if spec.run:
        raise UsageError(
            f"`run` and the engine {section.engine} cannot stand together",
            hint="Remove `run`, or write `engine: command`.",
            field="run",
        )
    argv = ["python", "-m", "nexus.deploy.serve", section.engine]
    if section.engine == "predictor":
        if ":" not in section.predictor:
            raise UsageError(
                "the engine predictor needs a class",
                hint="Write `predictor: module:Class`, such as predictor:Digits.",
                field="deploy.predictor",
            )
        return (*argv, "--predictor", section.predictor)
    if section.model.startswith(BUNDLED):
        argv += ["--model", section.model]
    elif not section.model and MODEL_INPUT not in spec.inputs:
        raise UsageError(
            "the engine llama needs a model",
            hint="Write `model: bundled://smollm2`, or model://NAME@VERSION of a model with a GGUF file.",
            field="deploy.model",
        )
    argv += ["--alias", endpoint_name(spec, section), "--context", str(section.context)]
    return (*argv, "--threads", str(section.threads)) if section.threads else tuple(argv)


def endpoint_name(spec: JobSpec, section: DeploySection) -> str:
    """What the endpoint is called."""
    return section.endpoint or spec.name


def deployment(spec: JobSpec, plan: RunPlan, job: str = "") -> Deployment:
    """What to hand to the server for a job of this kind. Raises UsageError for another kind."""
    section = spec.sections.get("deploy") or DeploySection()
    if spec.kind != "deploy" or not isinstance(section, DeploySection):
        raise UsageError(
            f"this job's kind is {spec.kind}, not deploy", hint="Run it with: nexus launch FILE", field="kind"
        )
    traits = engine(section.engine)
    limits = Limits(inflight=section.max_inflight or traits.inflight, timeout_s=section.timeout or traits.timeout_s)
    return Deployment(
        name=endpoint_name(spec, section),
        plan=plan,
        model=section.model,
        engine=section.engine,
        replicas=section.replicas,
        pure=section.pure,
        limits=limits,
        example="" if section.example is None else json.dumps(section.example, ensure_ascii=False),
        job=job,
    )


JOB_KIND: JobKind[DeploySection] = Deploy()
