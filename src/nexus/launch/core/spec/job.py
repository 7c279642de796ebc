"""A job as the user wrote it, checked: what every dialect of job file is read into."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, SerializeAsAny

from nexus.launch.core.spec.fields import InsidePath, Name, Seconds, Section, Source, Text, Texts, Variable, as_list
from nexus.launch.core.spec.parts import Command, HealthSpec, Isolation, PortSpec, Resources, RetrySpec, RoleSpec


class JobSpec(Section):
    """One file says what to run; `nexus launch FILE` runs it anywhere."""

    name: Name = "job"
    """What the run is called."""
    kind: str = "command"
    """command, train, federate, deploy or session; a section of that name holds what only this kind has."""
    workspace: Text | None = "."
    """The folder that is packed and sent, beside this file; .gitignore and .nexusignore are respected. null: none."""
    setup: Text = ""
    """A shell script that prepares the environment; cached by its text, requirements files and platform."""
    run: Command = ""
    """A shell script, or a list: a program and its arguments."""
    image: str | None = None
    """A container image, where the node has a container engine."""
    isolation: Isolation | None = None
    """How a task is kept apart from its node: process (its own process group), sandbox (sees nothing of the node but
    its programs) or container (that of `image`). Left out: as the node's owner has set it."""
    env: dict[Variable, Text] = Field(default_factory=dict)
    """Environment variables of every task."""
    secrets: tuple[Variable, ...] = ()
    """Secrets by name; their values live on the server, and become environment variables."""
    resources: Resources = Field(default_factory=Resources)
    """What one task needs of its machine."""
    nodes: int = Field(default=1, ge=1, le=10_000)
    """How many machines: a gang, all start together, or none."""
    network: Literal["fast", "any"] = "any"
    """fast: one low-latency network; any: may be behind NAT, across clouds."""
    placement: Literal["pack", "spread"] | None = None
    """Among equally cheap machines: fill few, or use many. Unsaid: tasks with accelerators pack, others spread."""
    inputs: dict[Name, Source] = Field(default_factory=dict)
    """Name -> artifact://RUN/NAME or model://NAME@VERSION, fetched before the start."""
    outputs: Annotated[tuple[InsidePath, ...], BeforeValidator(as_list)] = ()
    """Paths in the workspace that are kept as artifacts at the end."""
    ports: tuple[PortSpec, ...] = ()
    """Ports that a task listens on."""
    health: HealthSpec | None = None
    """When a task that listens is ready."""
    retry: RetrySpec = Field(default_factory=RetrySpec)
    """When a failed attempt is tried again."""
    timeout: Seconds | None = None
    """How long an attempt may take, such as 2h."""
    idle_stop: Seconds | None = None
    """Stopped after doing nothing for so long, such as 30m; 0: never. A session's is 1h, other kinds have none."""
    grace: Seconds = 10.0
    """Time between asking a task to stop and killing it."""
    priority: int = Field(default=50, ge=0, le=100)
    """0..100; higher goes first."""
    preemptible: bool = False
    """May be stopped and queued again for a run of a higher priority; save checkpoints within `grace`."""
    after: Texts = ()
    """Runs, or jobs in the same file, that must have succeeded first."""
    roles: tuple[RoleSpec, ...] = ()
    """Several kinds of process in one run; replaces `run`, `nodes` and `ports`."""

    # What is not written in a native file:
    sections: dict[str, SerializeAsAny[BaseModel]] = Field(default_factory=dict, exclude=True)
    warnings: tuple[str, ...] = Field(default=(), exclude=True)
