"""What Launch needs of the rest of the house."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nexus.launch.model import Fleet, GpuNeed, Machine, Offer, PriceNote, Run
from nexus.launch.protocol import Ticket

Mint = Callable[[Run, str], Awaitable[str]]  # a token of a run and a task's id, that may touch this run only
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

    async def check(self, project: str, names: Sequence[str]) -> None:
        """Refuse names that are not set. Raises NotFoundError, UsageError."""
        ...

    async def reveal(self, project: str, names: Sequence[str], *, run: str) -> dict[str, str]:
        """The values by name, for the environment of a run's tasks. Raises NotFoundError, UsageError."""
        ...


class JoinTokens(Protocol):
    """Tokens of machines that are started for us."""

    async def issue(self, machine: Machine) -> str:
        """A join token that works once, for this machine."""
        ...

    async def revoke(self, node: str) -> None:
        """Make the tokens of a node that is over useless."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a provider may use of the server that it works for."""

    folder: str  # its own, for what it must keep: absolute, readable by the owner only; made on first use
    url: str  # the server, as this machine reaches it


@dataclass(frozen=True, slots=True)
class MachineSighting:
    """What a provider sees of one machine."""

    alive: bool
    detail: str = ""  # what it does now ("pending: Resources"), or why it ended
    queued: bool = False  # the provider has not begun with it: the time to start does not count yet


class Provider(Protocol):
    """Where machines come from. It does one thing: start an agent there. Every call may be repeated.

    One object serves every fleet of its kind, for as long as the server runs; what it keeps in memory it must be able
    to do without. Calls come at the same time, but never two for one machine; each is cancelled after its time limit.
    """

    def check(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """A fleet's settings as they shall be kept: checked, and completed. Raises UsageError."""
        ...

    async def offers(self, fleet: Fleet) -> Sequence[Offer]:
        """What could be started now, and what could not, with `unavailable` saying why.

        Machines that run for us already are left out. Raises UnavailableError when the provider does not answer.
        """
        ...

    async def start(self, fleet: Fleet, machine: Machine, ticket: Ticket) -> dict[str, str]:
        """Have an agent started on a machine of this offer; the handle by which to find it again.

        A second call for the same machine id starts nothing new. UnavailableError means that nobody knows whether
        it was started: the call is repeated. Any other error means that nothing was: the machine has failed, its
        offer is left alone for a while, and another one is tried. Raises NoCapacityError and others.
        """
        ...

    async def look(self, fleet: Fleet, machines: Sequence[Machine]) -> Mapping[str, MachineSighting]:
        """What became of these machines, by their ids; one that is not named, or not alive, is certainly gone.

        Only asked about machines whose start has returned. Raises UnavailableError.
        """
        ...

    async def stop(self, fleet: Fleet, machine: Machine) -> None:
        """End the machine, or our agent there, also when `start` never returned (the handle is empty then).

        Nothing if it is gone. Raises UnavailableError.
        """
        ...

    async def close(self) -> None:
        """Let go of connections; machines go on."""
        ...


class Providers(Protocol):
    """All providers, by name."""

    def get(self, name: str) -> Provider:
        """The one called `name`. Raises NotFoundError, MissingError when an extra is not installed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Machinery:
    """All that starting machines takes."""

    providers: Providers
    tokens: JoinTokens
    url: str  # the server, as machines that can reach it from outside do


class Stream(Protocol):
    """One side of a call, over the network: messages as `calls` describes them, in order, or the end."""

    async def send(self, message: bytes) -> None:
        """Send it, once there is room: a slow reader holds its writer up. Raises UnavailableError when it is gone."""
        ...

    async def receive(self) -> bytes | None:
        """The next message; None once this side has hung up, or is gone."""
        ...

    async def close(self, why: str = "") -> None:
        """Hang up, with a few words for who looks. Nothing if that was done before."""
        ...


@dataclass(frozen=True, slots=True)
class Span:
    """A task on a priced node: `price` per hour from `start` to `end`, or until now."""

    project: str
    run: str
    name: str  # of the run
    user: str
    node: str
    price: float
    start: float
    end: float | None


@dataclass(frozen=True, slots=True)
class MachineSpan:
    """A priced machine of a fleet, from its start to its end, or until now."""

    fleet: str
    name: str
    node: str  # empty: its agent never joined
    price: float
    start: float
    end: float | None


class Ledger(Protocol):
    """The times for which something that has a price was held. What starts at `until` or ended by `since` is left out.

    `project` None: of all projects.
    """

    async def tasks(self, project: str | None, since: float, until: float, take: Callable[[Span], None]) -> None:
        """Give every task's to `take`, one at a time, in any order and maybe in another thread."""
        ...

    async def machines(self, project: str | None, since: float, until: float) -> Sequence[MachineSpan]:
        """Those of machines that providers started, also of those long forgotten otherwise."""
        ...


class Catalog(Protocol):
    """List prices of machines that clouds rent out. A snapshot: nobody is asked when it is read."""

    async def about(self) -> PriceNote:
        """How old it is, and whose prices it holds."""
        ...

    async def offers(self, gpu: GpuNeed) -> Sequence[Offer]:
        """Machines with these accelerators, as many or more; without any if none are needed."""
        ...

    async def refresh(self) -> PriceNote:
        """Fetch today's prices and use them from now on. Raises MissingError, UnavailableError."""
        ...


def log_topic(task_id: str) -> str:
    """The hint to give when bytes of a task's log arrived: an end that waits for them becomes visible at once."""
    return f"log:{task_id}"
