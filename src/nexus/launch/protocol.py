"""What an agent and the server say to each other: level-triggered, so that a lost or doubled message costs time only.

The agent dials out. It sends what it observes (`Report`), and is told what should be (`Desired`). Both are whole
pictures, never differences. Leases are durations counted on the agent's own monotonic clock from the moment it sent
the request, so a wrong wall clock does no harm. Only requests that were answered with a task's order renew its lease.

What the agent owes: an order that it does not know with `wanted` = `stop` is never started, but reported STOPPED; a
task whose order is gone is killed, and reported until it is acknowledged; an ended task is reported until it is
acknowledged. What the server owes: an end is visible only when the task's whole log has arrived.

    POST /v1/agent/join                        Join -> Joined            (a one-time join token)
    POST /v1/agent/sync?since=V&wait=S         Report -> Desired         (a long poll: answers at once if V is old)
    POST /v1/agent/tasks/{id}/logs?epoch&offset   bytes -> Offset        (at least once; the offset removes doubles)
    POST /v1/agent/tasks/{id}/metrics?epoch&stream&offset  bytes -> Offset  (stream: the spool file m-*.bin's name; what
                                                is after the answered offset was no whole frame yet: send it again)
    POST /v1/agent/tasks/{id}/artifacts?epoch   ArtifactReport -> {}
    HEAD, PUT, GET /v1/blobs/{sha256}
    WS   /v1/agent/calls/{id}                  a call to a task or to the node, see `launch.calls`
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nexus.launch.calls import CallKind
from nexus.launch.model import Capacity, Cause, Health, Port, TaskState

MACHINE_LABEL = "machine"  # a node's label with the id of the machine that a provider started for us
PROTOCOL = 1  # raised when an old agent could misunderstand a new server; both sides refuse what they do not know


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeInfo:
    """What an agent says of its machine."""

    name: str
    boot: str
    capacity: Capacity
    provider: str = "local"
    labels: dict[str, str] = field(default_factory=dict)
    region: str = ""
    network: str = ""
    address: str = "127.0.0.1"
    price: float = 0.0
    spot: bool = False
    agent_version: str = ""
    isolation: tuple[str, ...] = ("process",)
    shell: bool = False  # its owner lets admins work on the machine itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """A machine's first words; the join token travels in the Authorization header."""

    info: NodeInfo
    protocol: int = PROTOCOL


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """The machine's own token from now on."""

    node: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """How an agent on a new machine joins: its provider puts this, as JSON, into `ticket.json` in the agent's home.

    `python -m nexus.agent HOME` joins with it, then works. The label `machine` is how the server knows the node again.
    """

    url: str  # the server, as that machine reaches it; a provider may put another one
    token: str  # a join token, which works once
    name: str  # the node's name
    provider: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    address: str = ""  # by which other machines reach its tasks; empty: the agent finds it
    price: float = 0.0
    spot: bool = False
    region: str = ""
    network: str = ""
    capacity: Capacity | None = None  # what of the machine is ours; None: all that the agent finds


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReport:
    """What an agent observes of one task."""

    task: str
    epoch: int
    state: TaskState
    detail: str = ""
    cause: Cause | None = None
    exit_code: int | None = None
    signal: int | None = None
    ports: dict[str, int] = field(default_factory=dict)
    healthy: bool = False
    idle: bool = False  # for longer than its order's idle_stop_s
    log_end: int = 0  # bytes of log spooled so far; an ended task's log is whole when the server has this many


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything an agent observes now."""

    info: NodeInfo
    tasks: tuple[TaskReport, ...] = ()
    protocol: int = PROTOCOL


@dataclass(frozen=True, slots=True)
class Peer:
    """Where a task of the same run listens: all that are READY, in rank order within a role, the task itself too."""

    role: str
    index: int
    address: str
    ports: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOrder:
    """One task as it should be. The agent keeps it running until `wanted` is `stop` or the order is gone."""

    task: str
    run: str
    run_name: str
    project: str
    role: str
    index: int
    count: int
    attempt: int
    epoch: int
    lease_s: float
    wanted: str = "run"
    go: bool = True
    peers: tuple[Peer, ...] = ()
    gpus: tuple[int, ...] = ()
    cpu: float = 0.0  # what it holds of the node; 0: it asked for nothing, and is held to nothing
    memory_b: int = 0
    argv: tuple[str, ...] = ()
    script: str = ""
    setup: str = ""
    setup_files: tuple[str, ...] = ()
    image: str | None = None
    isolation: str = ""
    env: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    health: Health | None = None
    workspace: str | None = None
    workspace_b: int = 0
    inputs: dict[str, str] = field(
        default_factory=dict
    )  # name -> sha256 of a packed folder or file, resolved by the server
    outputs: tuple[str, ...] = ()
    timeout_s: float | None = None
    idle_stop_s: float | None = None
    grace_s: float = 10.0
    token: str = ""  # scoped to the run; the task's NEXUS_TOKEN


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOrder:
    """Somebody waits for this node at the server: dial `WS /v1/agent/calls/{id}`, and serve (see `launch.calls`)."""

    id: str
    kind: CallKind
    task: str = ""  # empty: the node itself
    epoch: int = 0
    argv: tuple[str, ...] = ()
    tty: bool = False
    rows: int = 24
    columns: int = 80
    term: str = ""
    port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """Everything that should be on this node. `acknowledged`: ended tasks that the agent may forget."""

    version: int
    heartbeat_s: float
    orders: tuple[TaskOrder, ...] = ()
    acknowledged: tuple[str, ...] = ()
    calls: tuple[CallOrder, ...] = ()  # that the agent has not dialled yet


@dataclass(frozen=True, slots=True)
class Offset:
    """How many bytes of the stream the server has, durably."""

    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactReport:
    """An output that the agent has uploaded: a packed folder or a file, by digest."""

    name: str
    digest: str
    size_b: int
    path: str = ""
    packed: bool = False  # a folder as a package (see infra.package), else a single file's bytes
    kind: str = "artifact"  # artifact | model | checkpoint
    meta: dict[str, str] = field(default_factory=dict)
