"""What all parts of the service share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from nexus.infra.hints import Hints
from nexus.kernel.clock import Clock
from nexus.kernel.errors import ConflictError
from nexus.kernel.events import Event
from nexus.kernel.ids import new_id
from nexus.kernel.records import Change, Drop, Records
from nexus.launch.core.observing import observe
from nexus.launch.core.policy import Policy
from nexus.launch.core.scheduling import Agenda, Decision, Seen, Unmet, decide
from nexus.launch.core.standing import Standing
from nexus.launch.model import NODES, Node, Run, Task
from nexus.launch.ports import Entropy, Mint, Secrets, Tracker
from nexus.launch.protocol import TaskReport
from nexus.launch.service.presence import Presence

T = TypeVar("T")
EVERYTHING = 1_000_000
_ATTEMPTS = 50

SCHEDULE = "launch.schedule"  # the topic by which the scheduler is woken
PROVISION = "launch.provision"  # the topic by which who starts machines is woken
EVENTS = "launch.events"  # somebody appended events


def node_topic(node_id: str) -> str:
    """Woken when what should be on a node may have changed."""
    return f"launch.node:{node_id}"


def run_topic(run_id: str) -> str:
    """Woken when a run or one of its tasks changed."""
    return f"launch.run:{run_id}"


@dataclass(slots=True)
class Shortage:
    """What the scheduler found no node for, and what is being done about it: each look replaces its own side."""

    unmet: Sequence[Unmet] = ()
    coming: Mapping[str, str] = field(default_factory=dict)  # run -> which machines start for it, or why none does


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The pure functions that the service lives by; simulations replace one to prove that it matters."""

    decide: Callable[[Standing, Agenda, Seen, float, Policy], Decision] = decide
    observe: Callable[[Task, TaskReport, float], Task | None] = observe


@dataclass(frozen=True, kw_only=True)
class Context:
    """Ports and shared state of one server."""

    records: Records
    clock: Clock
    entropy: Entropy
    policy: Policy
    hints: Hints
    tracker: Tracker
    mint: Mint
    secrets: Secrets | None = None
    rules: Rules = Rules()
    presence: Presence = field(default_factory=Presence)
    shortage: Shortage = field(default_factory=Shortage)

    def new_id(self, prefix: str) -> str:
        """A fresh id."""
        return new_id(prefix, self.entropy(8))

    async def commit(self, *changes: Change, events: Sequence[Event] = ()) -> None:
        """Apply; `wake` hears of it. Raises ConflictError."""
        await self.records.apply(*changes, events=events)

    async def nodes_for(self, project: str) -> list[Node]:
        """The nodes that runs of the project may use: its own, and those that others share."""
        return [node for node in await self.records.find(NODES, limit=EVERYTHING) if node.is_open_to(project)]

    def wake(self, changes: Sequence[Change], events: Sequence[Event] = ()) -> None:
        """Hint at what was committed, by whomever: everybody whom it concerns loads again."""
        topics: dict[str, None] = {}  # a set that keeps its order
        for change in changes:
            record = change.record if isinstance(change, Drop) else change[1]
            if isinstance(record, Task):
                topics |= {SCHEDULE: None, node_topic(record.node): None, run_topic(record.run): None}
            elif isinstance(record, Run):
                topics |= {SCHEDULE: None, run_topic(record.id): None}
            elif isinstance(record, Node):
                topics |= {SCHEDULE: None, node_topic(record.id): None}
        if events:
            topics[EVENTS] = None
        self.hints.hint(*topics)

    async def retry(self, step: Callable[[], Awaitable[T]]) -> T:
        """`step` loads, decides and commits; on a conflict it is taken again. Raises ConflictError after many."""
        for _ in range(_ATTEMPTS - 1):
            try:
                return await step()
            except ConflictError as error:
                if type(error) is not ConflictError or error.details.get("final"):
                    raise
        return await step()
