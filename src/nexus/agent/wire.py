"""The agent's own composition root: concrete classes around `service.Agent`. It imports little, to stay small."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from nexus import __version__
from nexus.agent.adapters.clock import LeaseClock
from nexus.agent.adapters.environments import Environments
from nexus.agent.adapters.home import Home
from nexus.agent.adapters.http_channel import HttpChannel
from nexus.agent.adapters.http_wire import HttpWire
from nexus.agent.adapters.inside import Inside
from nexus.agent.adapters.isolation.levels import Isolation
from nexus.agent.adapters.journal import FileJournal
from nexus.agent.adapters.launcher import Launcher
from nexus.agent.adapters.meters import TaskMeter
from nexus.agent.adapters.preparing import SETUP_TIMEOUT_S, Preparation
from nexus.agent.adapters.probe import probe
from nexus.agent.adapters.processes import ProcessRunner
from nexus.agent.adapters.spool import DiskSpool
from nexus.agent.adapters.sweeping import sweep
from nexus.agent.model import LocalTask
from nexus.agent.service import Agent
from nexus.agent.service.calls import Calls
from nexus.agent.service.metering import METER_S, Metering
from nexus.kernel.errors import ConflictError, NotFoundError, UnavailableError, UsageError
from nexus.launch.model import Capacity
from nexus.launch.protocol import MACHINE_LABEL, Join, NodeInfo, Ticket


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a machine's owner says of it, because nothing on the machine tells."""

    price: float = 0.0  # per hour, for the whole machine
    spot: bool = False  # it may be taken away
    region: str = ""
    network: str = ""  # machines that name the same one are close to each other
    shell: bool = False  # admins of the project may work on the machine itself
    sandbox: bool = False  # every task is kept in a sandbox or a container, whatever its job says
    share: tuple[str, ...] = ()  # folders that tasks in a sandbox or container may read, beside their own
    provider: str = ""  # what started it, where it was not its owner
    address: str = ""  # by which others reach its tasks, where that is not the one by which it reaches the server
    capacity: Capacity | None = None  # what of the machine is ours; None: all of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """What a machine keeps of its joining, in `node.json`."""

    url: str
    node: str
    token: str
    name: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    terms: Terms = Terms()


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a test or an owner may set otherwise."""

    setup_timeout_s: float = SETUP_TIMEOUT_S
    ca_file: str | None = None
    meter_s: float = METER_S  # between two readings of what tasks use
    note: Callable[[str], None] = lambda _: None
    doubt_s: float = 0.0  # before an end is told that nobody asked for (see `captive`)


async def join(
    home: Path,
    url: str,
    token: str,
    *,
    name: str = "",
    labels: Mapping[str, str] | None = None,
    terms: Terms = Terms(),
) -> Membership:
    """Bring this machine in with a join token, and remember it in `home`.

    Raises ConflictError while an agent works in `home`, DeniedError, UnavailableError, MissingError if the owner wants
    a sandbox and there is none.
    """
    folder = Home(home)
    lock = folder.lock()
    wire = HttpWire(url, token, agent=f"nexus-agent/{__version__}")
    wanted = Membership(url=wire.url, node="", token="", name=name, labels=dict(labels or {}), terms=terms)
    try:
        info = _info(folder, wanted)
        info = replace(info, isolation=_isolation(folder, info, wanted.terms).levels)
        joined = await HttpChannel(wire).join(Join(info=info))
        member = replace(wanted, node=joined.node, token=joined.token, name=info.name)
        remember(home, member)
    finally:
        wire.close()
        os.close(lock)
    return member


async def admitted(home: Path, patience_s: float = 120.0) -> Membership:
    """This machine's membership; a ticket that a provider left in `home` is used first, whatever was before it.

    The way to the server may open after the agent starts, so a join is tried for `patience_s`.
    Raises NotFoundError if this machine has not joined, DeniedError for a ticket that does not work any more,
    UnavailableError.
    """
    file = home / "ticket.json"
    try:
        ticket = msgspec.json.decode(file.read_bytes(), type=Ticket)
    except FileNotFoundError:
        return membership(home)
    except msgspec.DecodeError as error:
        raise UsageError(f"{file} is damaged: {error}", hint="Remove it, and start the machine again.") from error
    member = _joined_with(home, ticket) or await _join_patiently(home, ticket, patience_s)
    file.unlink(missing_ok=True)  # last: an agent that is killed before comes back to it
    return member


def _joined_with(home: Path, ticket: Ticket) -> Membership | None:
    """The membership that this ticket has brought already."""
    try:
        member = membership(home)
    except (NotFoundError, UsageError):
        return None
    machine = ticket.labels.get(MACHINE_LABEL)
    return member if machine and member.labels.get(MACHINE_LABEL) == machine else None


async def _join_patiently(home: Path, ticket: Ticket, patience_s: float) -> Membership:
    terms = Terms(
        price=ticket.price,
        spot=ticket.spot,
        region=ticket.region,
        network=ticket.network,
        provider=ticket.provider,
        address=ticket.address,
        capacity=ticket.capacity,
    )
    give_up, pause_s = asyncio.get_running_loop().time() + patience_s, 0.05
    while True:
        try:
            return await join(home, ticket.url, ticket.token, name=ticket.name, labels=ticket.labels, terms=terms)
        except UnavailableError:
            if asyncio.get_running_loop().time() > give_up:
                raise
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, 2.0)


def _info(folder: Home, member: Membership) -> NodeInfo:
    """What the machine is, and what its owner says of it."""
    terms = member.terms
    found = probe(folder.path, member.url, name=member.name, labels=member.labels)
    return replace(
        found,
        price=terms.price,
        spot=terms.spot,
        region=terms.region,
        network=terms.network,
        shell=terms.shell,
        provider=terms.provider or found.provider,
        address=terms.address or found.address,
        capacity=_share(found.capacity, terms.capacity),
    )


def _share(found: Capacity, ours: Capacity | None) -> Capacity:
    """What an allocation gave us of the machine; the disk is what there is, where nobody said."""
    return found if ours is None else replace(ours, disk_b=ours.disk_b or found.disk_b)


def remember(home: Path, member: Membership) -> None:
    """Write what a machine needs to come back."""
    file = Home(home).node
    draft = file.with_name("node.json.new")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as out:
        out.write(msgspec.json.format(msgspec.json.encode(member), indent=2))
    draft.replace(file)


def membership(home: Path) -> Membership:
    """What `join` remembered. Raises NotFoundError if this machine has not joined."""
    file = home / "node.json"
    try:
        return msgspec.json.decode(file.read_bytes(), type=Membership)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"this machine has not joined a server: there is no {file}",
            hint="Make a join token where you are logged in (`nexus token join`); run here what it says.",
        ) from error
    except msgspec.DecodeError as error:
        raise UsageError(f"{file} is damaged: {error}", hint="Join again: nexus agent join URL TOKEN") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalStatus:
    """How this machine stands, without asking the server. Orders are told without their secrets."""

    url: str
    node: str
    name: str
    running: bool
    tasks: tuple[LocalTask, ...]


def local_status(home: Path) -> LocalStatus:
    """What the agent's folder tells. Raises NotFoundError if this machine has not joined."""
    member = membership(home)
    folder = Home(home)
    try:
        os.close(folder.lock())
        running = False
    except ConflictError:
        running = True
    tasks = [
        replace(task, order=replace(task.order, secrets={}, token="", env={})) for task in FileJournal(folder).load()
    ]
    return LocalStatus(url=member.url, node=member.node, name=member.name, running=running, tasks=tuple(tasks))


@asynccontextmanager
async def open_agent(home: Path, member: Membership, options: Options | None = None) -> AsyncIterator[Agent]:
    """An agent, ready to `run`. Raises ConflictError if another works in this home."""
    chosen = options or Options()
    folder = Home(home)
    lock = folder.lock()
    info = await asyncio.to_thread(_info, folder, member)
    wire = HttpWire(member.url, member.token, agent=f"nexus-agent/{__version__}", ca_file=chosen.ca_file)
    launcher = Launcher(folder, info.boot)
    spool = DiskSpool(folder)
    environments = Environments(folder.environments)
    isolation = _isolation(folder, info, member.terms)
    runner = ProcessRunner(
        folder,
        launcher,
        environments,
        Preparation(folder, launcher, environments, spool, isolation, chosen.setup_timeout_s),
        isolation,
        address=info.address,
        api_url=member.url,
    )
    journal = FileJournal(folder, chosen.note)
    channel, clock, doors = HttpChannel(wire), LeaseClock(), Inside(folder)
    try:
        doors.sweep()
        journal.load()  # puts aside what cannot be read, before the sweep looks
        await sweep(folder, launcher, isolation.has_containers)
        agent = Agent(
            channel,
            runner,
            spool,
            journal,
            clock,
            replace(info, isolation=isolation.levels),
            random.SystemRandom().random,
            chosen.note,
            Calls(channel.dial, doors, clock, shell=member.terms.shell),
            doors.used_cpu_s,
            Metering(TaskMeter(folder), spool, clock, chosen.meter_s),
            doubt_s=chosen.doubt_s,
        )
        isolation.find_out(lambda: agent.learn(replace(agent.info, isolation=isolation.levels)))
        yield agent
    finally:
        isolation.close()
        launcher.close()
        wire.close()
        os.close(lock)


def _isolation(folder: Home, info: NodeInfo, terms: Terms) -> Isolation:
    return Isolation(folder, info.boot, required=terms.sandbox, shared=tuple(Path(path) for path in terms.share))
