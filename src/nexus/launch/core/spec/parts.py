"""The parts of a job: what it needs of a machine, its ports, its health, its retries, its roles."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from nexus.kernel.units import Range
from nexus.launch.core.spec.fields import (
    Backoff,
    Bytes,
    Count,
    Name,
    PortName,
    Price,
    Seconds,
    Section,
    Text,
    Texts,
    Variable,
    as_list,
    complaint,
)
from nexus.launch.model import OnExit

_GPU = re.compile(r"([A-Za-z0-9][A-Za-z0-9 ._-]*)(?::(\d{1,4}))?")
_CAUSES = ("node_lost", "spot_reclaimed", "exit", "signal", "setup", "timeout", "memory", "health")
_EXIT = re.compile(r"exit:\d{1,3}")


def _gpu_names(value: tuple[str, ...]) -> tuple[str, ...]:
    return () if "any" in value else value


class GpuSpec(Section):
    """Accelerators for one task. Also written `A100:2`, `any:1`, or a number."""

    shorthand = ({"type": "integer", "minimum": 0}, {"type": "string", "examples": ["A100", "A100:2", "any:1"]})

    name: Annotated[Texts, AfterValidator(_gpu_names)] = ()
    """Names, any of which will do; none: any."""
    count: int = Field(default=1, ge=0, le=1024)
    """How many on one machine."""
    memory: Bytes = Field(default_factory=Range)
    """Memory of each, such as 40GiB.. ."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | str):
            return value
        if isinstance(value, int):
            return {"count": value}
        match = _GPU.fullmatch(value.strip())
        if match is None:
            raise complaint(f"{value!r} is not an accelerator", "Write A100, A100:2, any:1, or a number.")
        return {"count": int(value)} if value.strip().isdigit() else {"name": [match[1]], "count": int(match[2] or 1)}


class Resources(Section):
    """What one task needs of its machine. Ranges: `4`, `4..`, `4..8`."""

    gpu: GpuSpec | None = None
    """Accelerators: `A100:1`, `any:1`, or {name, count, memory}."""
    cpu: Count = Field(default_factory=Range)
    """Processor cores."""
    memory: Bytes = Field(default_factory=Range)
    """Memory, such as 16GiB.. ."""
    disk: Bytes = Field(default_factory=Range)
    """Free disk, such as 50GiB.. ."""
    region: Texts = ()
    """Where, as globs: any of them will do."""
    spot: Literal["auto", "only", "never"] = "auto"
    """Machines that may be taken away: only these, never these, or either."""
    max_price: Price | None = None
    """Per hour, for the whole run, in the project's currency."""
    labels: dict[str, Text] = Field(default_factory=dict)
    """Node labels that must match."""


class PortSpec(Section):
    """A port that a task listens on. Also written as a number, or as a name alone."""

    shorthand = ({"type": "integer", "minimum": 0, "maximum": 65535}, {"type": "string"})

    port: int = Field(default=0, ge=0, le=65535)
    """The number; 0: the agent picks a free one, in NEXUS_PORT_<NAME>."""
    name: PortName = "http"
    """What others call it."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return {"port": value}
        return {"name": value} if isinstance(value, str) else value


class HealthSpec(Section):
    """When a task that listens is ready: an HTTP GET that answers 2xx. Also written as a path alone."""

    shorthand = ({"type": "string", "pattern": "^/"},)

    path: str = Field(default="/", pattern="^/")
    """The path to ask for."""
    port: PortName = "http"
    """The name of the port to ask."""
    every: Seconds = 0.5
    """Time between two questions."""
    timeout: Seconds = 120.0
    """How long it may take to become ready."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


def _causes(value: Any) -> Any:
    items = as_list(value)
    if not isinstance(items, list | tuple):
        return items
    return tuple(
        f"exit:{item['exit']}" if isinstance(item, dict) and list(item) == ["exit"] else item for item in items
    )


def _known_cause(value: str) -> str:
    if value not in _CAUSES and not _EXIT.fullmatch(value):
        raise complaint(f"{value!r} is not a cause to retry on", f"Causes: {', '.join(_CAUSES)}, exit:CODE.")
    return value


class RetrySpec(Section):
    """When a failed attempt is tried again. Also written as a number alone."""

    shorthand = ({"type": "integer", "minimum": 0},)

    max: int = Field(default=0, ge=0, le=1000)
    """How many times."""
    on: Annotated[tuple[Annotated[str, AfterValidator(_known_cause)], ...], BeforeValidator(_causes)] = (
        "node_lost",
        "spot_reclaimed",
    )
    """Causes: node_lost, spot_reclaimed, exit, exit:CODE, signal, setup, timeout, memory, health."""
    backoff: Backoff = Field(default_factory=lambda: Range(5.0, 300.0))
    """The first and the longest wait between attempts; it doubles."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"max": value} if isinstance(value, int) and not isinstance(value, bool) else value


def _command(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    if any("\x00" in part for part in ((value,) if isinstance(value, str) else value)):
        raise complaint("a NUL character cannot be in here")
    return value


Command = Annotated[str | tuple[str, ...], AfterValidator(_command)]


Isolation = Literal["process", "sandbox", "container"]


class RoleSpec(Section):
    """A kind of process inside a run. What it does not say, it takes from the job."""

    name: Name
    """What the role is called."""
    count: int = Field(default=1, ge=0, le=10_000)
    """How many processes."""
    run: Command = ""
    """A shell script, or a list: a program and its arguments."""
    setup: Text | None = None
    """Prepares the environment."""
    image: str | None = None
    """A container image, where the node has a container engine."""
    isolation: Isolation | None = None
    """How it is kept apart from its node: process, sandbox or container."""
    env: dict[Variable, Text] = Field(default_factory=dict)
    """Environment variables, beside the job's."""
    resources: Resources | None = None
    """What one process needs of its machine."""
    ports: tuple[PortSpec, ...] = ()
    """Ports that it listens on."""
    health: HealthSpec | None = None
    """When it is ready."""
    gang: bool = False
    """Whether all processes of all gang roles start together, or none."""
    on_exit: OnExit = OnExit.ALL
    """What one process's end means: all must succeed, any ends the run, restart it, ignore it."""
