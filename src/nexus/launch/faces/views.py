"""The answers and requests of Launch's routes that are not records themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nexus.kernel.events import Event
from nexus.launch.model import Node, Run


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """Some runs, newest first; `next` is the cursor of the following page, empty on the last."""

    runs: tuple[Run, ...]
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
