"""The answers and requests of Launch's routes that are not records themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from nexus.kernel.events import Event
from nexus.launch.model import Cause, Node, Run, RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """A run as a list shows it: without its plan and job file, with where it is (or was, last) and its cost by now."""

    id: str
    project: str
    name: str
    kind: str
    state: RunState
    created: float
    version: int
    reason: str = ""
    cause: Cause | None = None
    attempt: int = 0
    wanted: str = "run"
    started: float | None = None
    ended: float | None = None
    exit_code: int | None = None
    cost: float = 0.0
    user: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    nodes: tuple[str, ...] = ()  # by name, the first few


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """Some runs, newest first; `next` is the cursor of the following page, empty on the last."""

    runs: tuple[RunSummary, ...]
    next: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """Some events; ask with `after` = `last` for what happened since."""

    events: tuple[Event, ...]
    last: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleRequest:
    """How many tasks of a role should be."""

    role: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRequest:
    """A fleet to be set up, or to be given other settings. What is left out stays, or is the default."""

    name: str
    provider: str
    settings: dict[str, Any] = field(default_factory=dict)
    idle_s: float | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeUse:
    """A node and what live tasks hold of it."""

    node: Node
    tasks: int = 0
    cpu: float = 0.0
    memory_b: int = 0
    gpus: int = 0


def summary_of(run: Run, nodes: Sequence[str]) -> RunSummary:
    """The run, for a list."""
    values = {known.name: getattr(run, known.name) for known in fields(RunSummary) if known.name != "nodes"}
    return RunSummary(**values, nodes=tuple(nodes))
