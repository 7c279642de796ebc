"""What Launch needs of the rest of the house."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from nexus.launch.model import Fleet, Machine, Offer, Run

Mint = Callable[[Run], Awaitable[str]]  # a token that may touch this run only; the task's NEXUS_TOKEN
Entropy = Callable[[int], bytes]


class Tracker(Protocol):
    """What Launch asks of the record of every run (the slice `track`)."""

    async def log_end(self, task_id: str) -> int:
        """How many bytes of the task's log are stored durably; 0 when none came yet."""
        ...

    async def resolve(self, project: str, reference: str) -> str:
        """The SHA-256 of what `artifact://run/name` or `model://name@version` names now.

        Raises NotFoundError if there is none, UsageError if the reference cannot be read.
        """
        ...


class Secrets(Protocol):
    """Where secrets are kept, encrypted."""

    async def reveal(self, project: str, names: Sequence[str]) -> dict[str, str]:
        """The values by name, for a task's environment. Raises NotFoundError for a name that is not set."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What an agent on a new machine needs to join: where the server is, as that machine reaches it, and a token."""

    url: str
    token: str  # a one-time join token
    name: str  # the node's name
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class MachineSighting:
    """What a provider sees of one machine."""

    alive: bool
    detail: str = ""  # what it does now ("pending: Resources"), or why it ended


class Provider(Protocol):
    """Where machines come from. It does one thing: start an agent there. Every call may be repeated."""

    async def offers(self, fleet: Fleet) -> Sequence[Offer]:
        """What could be started now. Raises UnavailableError when the provider does not answer."""
        ...

    async def start(self, fleet: Fleet, machine: Machine, ticket: Ticket) -> dict[str, str]:
        """Have an agent started on a machine of this offer; the handle by which to find it again.

        A second call for the same machine id starts nothing new. Raises NoCapacityError, UnavailableError.
        """
        ...

    async def look(self, fleet: Fleet, machines: Sequence[Machine]) -> Mapping[str, MachineSighting]:
        """What became of these machines, by their ids; one that is not named is gone. Raises UnavailableError."""
        ...

    async def stop(self, fleet: Fleet, machine: Machine) -> None:
        """End the machine, or our agent there. Nothing if it is gone. Raises UnavailableError."""
        ...


def log_topic(task_id: str) -> str:
    """The hint to give when bytes of a task's log arrived: an end that waits for them becomes visible at once."""
    return f"log:{task_id}"
