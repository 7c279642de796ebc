"""What Launch talks about: plans made of roles, runs and tasks with their life cycles, nodes and their capacity."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from nexus.kernel.lifecycle import Lifecycle
from nexus.kernel.records import Kind, Record
from nexus.kernel.units import Range

# --------------------------------------------------------------------------- what is wanted


@dataclass(frozen=True, slots=True)
class GpuNeed:
    """Accelerators for one task. No names: any."""

    count: int = 0
    names: tuple[str, ...] = ()
    memory_b: Range = Range()


@dataclass(frozen=True, slots=True)
class Needs:
    """What one task needs of a node."""

    cpu: Range = Range()
    memory_b: Range = Range()
    disk_b: Range = Range()
    gpu: GpuNeed = GpuNeed()
    labels: dict[str, str] = field(default_factory=dict)
    regions: tuple[str, ...] = ()  # globs, any of them
    spot: str = "auto"  # only | never | auto


RENDEZVOUS = "rendezvous"  # the name of the port by which a gang's tasks find each other


@dataclass(frozen=True, slots=True)
class Port:
    """A port that a task listens on. `port` 0: the agent picks a free one and says it in `NEXUS_PORT_<NAME>`."""

    name: str
    port: int = 0


@dataclass(frozen=True, slots=True)
class Health:
    """When a task that listens is ready: an HTTP GET on `port` at `path` that answers 2xx."""

    path: str = "/"
    port: str = "http"
    every_s: float = 0.5
    timeout_s: float = 120.0


class OnExit(StrEnum):
    """What one task's end means for its run."""

    ALL = "all"  # the run succeeds when every task did; one failure fails the attempt
    ANY = "any"  # the run ends as soon as this role's task ends (a federated server)
    RESTART = "restart"  # the task is started again, with backoff (a replica)
    IGNORE = "ignore"  # the run goes on without it (a federated client)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolePlan:
    """A kind of process inside a run: how many, with what, doing what, and what its end means.

    `argv` is run as it is; else `script` is written to a file and given to a shell. `setup` (a script too) prepares
    the environment, which the agent caches by a hash of it and of the files named in `setup_files`.
    """

    name: str
    count: int = 1
    needs: Needs = Needs()
    argv: tuple[str, ...] = ()
    script: str = ""
    setup: str = ""
    setup_files: tuple[str, ...] = ()
    image: str | None = None
    isolation: str = ""  # sandbox | container: how far apart it must be kept from its node; empty: as the node does
    env: dict[str, str] = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    health: Health | None = None
    gang: bool = False  # every task of all gang roles starts together, or none
    on_exit: OnExit = OnExit.ALL


@dataclass(frozen=True, slots=True)
class Retry:
    """When a failed attempt is tried again: by cause, with exponential backoff between `backoff_s` bounds."""

    max: int = 0
    on: tuple[str, ...] = ("node_lost", "spot_reclaimed")  # also "exit", "exit:75", "setup", "signal", "timeout"
    backoff_s: Range = Range(5.0, 300.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """The waist: every product's file is compiled into this, and nobody below knows what the job is about."""

    kind: str
    roles: tuple[RolePlan, ...]
    workspace: str | None = None  # sha256 of the packed folder
    workspace_b: int = 0
    inputs: dict[str, str] = field(default_factory=dict)  # name -> artifact://run/name | model://name@version
    outputs: tuple[str, ...] = ()  # paths in the workspace, kept as artifacts at the end
    secrets: tuple[str, ...] = ()
    network: str = "any"  # fast | any
    placement: str = ""  # pack | spread: among equal prices; empty: accelerators packed, everything else spread
    max_price: float | None = None  # per hour, for the whole run
    retry: Retry = Retry()
    timeout_s: float | None = None
    idle_stop_s: float | None = None  # the run is stopped once all its tasks did nothing for so long
    grace_s: float = 10.0  # between TERM and KILL
    priority: int = 50
    preemptible: bool = False  # may be stopped, and queued again, for a run of a higher priority
    after: tuple[str, ...] = ()  # ids of runs that must have succeeded

    def role(self, name: str) -> RolePlan:
        """The role called `name`. Raises KeyError."""
        for role in self.roles:
            if role.name == name:
                return role
        raise KeyError(name)


# --------------------------------------------------------------------------- runs and tasks


class RunState(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"  # waits for machines, for other runs, or for its backoff; `reason` says which
    STARTING = "starting"  # has its leases; not every task runs yet
    RUNNING = "running"
    STOPPING = "stopping"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"


RUN_LIFE = Lifecycle(
    "run",
    RunState.QUEUED,
    {
        RunState.QUEUED: (RunState.STARTING, RunState.FAILED, RunState.STOPPED),
        RunState.STARTING: (
            RunState.RUNNING,
            RunState.STOPPING,
            RunState.QUEUED,
            RunState.SUCCEEDED,
            RunState.FAILED,
            RunState.STOPPED,
        ),
        RunState.RUNNING: (
            RunState.STOPPING,
            RunState.QUEUED,
            RunState.STARTING,
            RunState.SUCCEEDED,
            RunState.FAILED,
            RunState.STOPPED,
        ),
        RunState.STOPPING: (RunState.STOPPED, RunState.QUEUED, RunState.FAILED, RunState.SUCCEEDED),
        RunState.SUCCEEDED: (),
        RunState.FAILED: (),
        RunState.STOPPED: (),
    },
)


class TaskState(StrEnum):
    """Where a task stands. Everything but LEASED and LOST is what its agent observed."""

    LEASED = "leased"  # a node was chosen; its agent has not spoken of it yet
    PREPARING = "preparing"  # workspace, environment, inputs
    READY = "ready"  # prepared, ports chosen; a gang's tasks wait here for each other
    RUNNING = "running"
    STOPPING = "stopping"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"  # its lease ran out, or its node forgot it


_ENDS = (TaskState.SUCCEEDED, TaskState.FAILED, TaskState.STOPPED, TaskState.LOST)
TASK_LIFE = Lifecycle(
    "task",
    TaskState.LEASED,
    {
        TaskState.LEASED: (TaskState.PREPARING, TaskState.READY, TaskState.RUNNING, TaskState.STOPPING, *_ENDS),
        TaskState.PREPARING: (TaskState.READY, TaskState.RUNNING, TaskState.STOPPING, *_ENDS),
        TaskState.READY: (TaskState.RUNNING, TaskState.STOPPING, *_ENDS),
        TaskState.RUNNING: (TaskState.STOPPING, *_ENDS),
        TaskState.STOPPING: _ENDS,
        **dict.fromkeys(_ENDS, ()),
    },
)


class Cause(StrEnum):
    """Why a task or run ended; retry policies name these."""

    DONE = "done"
    EXIT = "exit"  # a non-zero exit code
    SIGNAL = "signal"
    SETUP = "setup"  # the environment, workspace or inputs could not be prepared
    TIMEOUT = "timeout"
    STOPPED = "stopped"  # somebody asked
    NODE_LOST = "node_lost"
    SPOT = "spot_reclaimed"
    HEALTH = "health"  # never became ready
    PEER = "peer"  # another task of the gang ended
    MEMORY = "memory"  # killed for using too much
    IDLE = "idle"  # did nothing for longer than its idle_stop
    PREEMPTED = "preempted"  # it made room for a run of a higher priority
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Record):
    """One execution of a job."""

    name: str
    kind: str
    plan: RunPlan
    state: RunState = RunState.QUEUED
    reason: str = ""  # why it waits, or why it ended, in words
    cause: Cause | None = None
    attempt: int = 0
    preempted: int = 0  # how many of its attempts only made room for others; they do not count against `retry`
    scale: dict[str, int] = field(default_factory=dict)  # role -> wanted count, where it differs from the plan
    wanted: str = "run"  # run | stop
    rejections: tuple[str, ...] = ()  # why no machine fits, while it waits for one
    not_before: float = 0.0
    until: float | None = None  # it runs on room that is kept for another from then on, and makes room if it must
    started: float | None = None
    ended: float | None = None
    exit_code: int | None = None
    cost: float = 0.0
    work: float = 0.0  # cpu-seconds that its ended tasks held; an accelerator counts as 16 cpus
    user: str = ""
    job: str = ""  # the job file as the user wrote it
    tags: dict[str, str] = field(default_factory=dict)  # e.g. endpoint=..., template=...
    key: str = ""  # the caller's idempotency key

    def count(self, role: RolePlan) -> int:
        """How many tasks of `role` are wanted now."""
        return self.scale.get(role.name, role.count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(Record):
    """One process of a role on one node; one record per attempt. `epoch` fences: it only ever grows on a node."""

    run: str
    role: str
    index: int
    attempt: int  # how often this place of the run was tried before
    node: str
    epoch: int
    run_attempt: int = 0  # which attempt of the whole run it belongs to
    state: TaskState = TaskState.LEASED
    detail: str = ""  # what it does now ("installing 12 packages"), or why it ended
    cause: Cause | None = None
    exit_code: int | None = None
    signal: int | None = None
    wanted: str = "run"  # run | stop
    go: bool = True  # False: a gang's task, which waits in READY until all are
    gpus: tuple[int, ...] = ()  # which of the node's accelerators it holds
    cpu: float = 0.0  # what it holds of the node
    memory_b: int = 0
    address: str = ""
    ports: dict[str, int] = field(default_factory=dict)  # name -> port, once READY
    healthy: bool = False
    idle: bool = False  # for longer than the plan's idle_stop_s
    lease_until: float = 0.0
    started: float | None = None
    ended: float | None = None
    price: float = 0.0  # per hour, of what it holds


# --------------------------------------------------------------------------- nodes


@dataclass(frozen=True, slots=True)
class Gpu:
    """One accelerator."""

    name: str
    memory_b: int = 0


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a node has."""

    cpu: float = 0.0
    memory_b: int = 0
    disk_b: int = 0
    gpus: tuple[Gpu, ...] = ()


class NodeState(StrEnum):
    """Where a node stands."""

    ONLINE = "online"
    DRAINING = "draining"  # keeps its tasks, gets no new ones
    UNREACHABLE = "unreachable"  # silent; its leases still hold
    GONE = "gone"  # its leases ran out, or somebody removed it


NODE_LIFE = Lifecycle(
    "node",
    NodeState.ONLINE,
    {
        NodeState.ONLINE: (NodeState.DRAINING, NodeState.UNREACHABLE, NodeState.GONE),
        NodeState.DRAINING: (NodeState.ONLINE, NodeState.UNREACHABLE, NodeState.GONE),
        NodeState.UNREACHABLE: (NodeState.ONLINE, NodeState.DRAINING, NodeState.GONE),
        NodeState.GONE: (NodeState.ONLINE,),
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node(Record):
    """A machine with an agent."""

    name: str
    provider: str = "local"
    capacity: Capacity = Capacity()
    labels: dict[str, str] = field(default_factory=dict)
    region: str = ""
    network: str = ""  # nodes with the same value share one fast network
    address: str = "127.0.0.1"
    price: float = 0.0  # per hour, for the whole node, as its owner says
    spot: bool = False
    reclaims_per_h: float | None = None  # how often such a machine is taken away; None: as the policy expects of spot
    state: NodeState = NodeState.ONLINE
    shared: bool = False  # runs of every project may use it, not only those of its own
    drain: bool = False  # somebody asked for DRAINING, which a silence does not make forgotten
    seen: float = 0.0
    boot: str = ""  # changes when the agent's home or the machine was made anew
    earlier_boots: tuple[str, ...] = ()  # the last few before: what still comes from them is late
    agent_version: str = ""
    isolation: tuple[str, ...] = ("process",)
    epoch: int = 0  # the highest lease epoch given on this node
    shell: bool = False  # its owner lets admins work on the machine itself
    over: str = ""  # why its machine is certainly gone, as its provider says: its tasks are lost without waiting

    @property
    def users(self) -> str:
        """The project whose runs may use it; empty: those of all."""
        return "" if self.shared else self.project

    def is_open_to(self, project: str) -> bool:
        """Whether runs of this project may use it."""
        return self.shared or self.project == project


RUNS = Kind(
    "run",
    Run,
    index=("name", "state", "kind", "user", "key"),
    hot={"state": RUN_LIFE.live},
    shared=("plan", "job", "tags"),
    paged=True,
)
TASKS = Kind("task", Task, index=("run", "node", "state"), hot={"state": TASK_LIFE.live})
NODES = Kind(
    "node",
    Node,
    index=("name", "state", "provider"),
    unique=("project", "name"),
    hot={},
    shared=("capacity", "labels", "isolation"),
)


# --------------------------------------------------------------------------- what projects may hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota(Record):
    """What one project may hold, and its share when there is not enough for all. None: no limit."""

    weight: float = 1.0  # a project of weight 2 gets twice as much as one of weight 1
    gpus: int | None = None  # at once
    cpu: float | None = None
    memory_b: int | None = None
    price: float | None = None  # per hour, of everything it holds
    budget: float | None = None  # per calendar month (UTC); once it is spent, nothing new starts


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage(Record):
    """What one project has used: exactly the cost of its ended tasks, and the decayed work that fair shares look at."""

    spent: dict[str, float] = field(default_factory=dict)  # month ("2026-11") -> money; the last ones only
    work: float = 0.0  # seconds of holding a whole cluster, as of `at`; halves every `Policy.memory_s`
    at: float = 0.0


QUOTAS = Kind("quota", Quota, unique=("project",), hot={})
USAGES = Kind("usage", Usage, unique=("project",), hot={})


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What a caller hands in: a compiled plan and what people want to see of where it came from."""

    name: str
    plan: RunPlan
    job: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    key: str = ""  # the same key again gives the same run


# --------------------------------------------------------------------------- capacity without an agent yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Capacity that could be rented or used, and has no agent yet: one machine of one kind at one place."""

    id: str  # the same as long as it means the same: provider:region:machine, with :spot behind
    provider: str  # ssh, slurm, aws, ...
    machine: str  # the provider's name for it: a host, a partition, an instance type
    capacity: Capacity
    fleet: str = ""  # the id of the fleet that could start it; empty: it is only known from a price list
    region: str = ""
    network: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    price: float = 0.0  # per hour, for the whole machine
    spot: bool = False
    reclaims_per_h: float = 0.0  # how often such a machine is expected to be taken away
    start_s: float = 0.0  # until its agent speaks
    count: int | None = None  # how many could start now; None: unknown
    isolation: tuple[str, ...] = ("process",)
    unavailable: str = ""  # why this installation cannot start it today; empty: it can


@dataclass(frozen=True, slots=True)
class PriceSource:
    """Whose list prices they are, and the day on which they were read."""

    name: str
    read: str  # 2026-11-24
    providers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceNote:
    """What there is to say of a price list: it is a snapshot, and this is how old."""

    made: str  # 2026-11-24
    rows: int
    sources: tuple[PriceSource, ...] = ()
    age_days: int = 0
    trouble: str = ""  # why a newer one is not used


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet(Record):
    """Machines that one provider manages for a project, as somebody set it up. Secrets are named, never held here."""

    name: str
    provider: str
    settings: dict[str, Any] = field(default_factory=dict)  # the provider's own, checked by it
    idle_s: float = 300.0  # how long a machine without tasks is kept
    most: int | None = None  # machines at once
    paused: bool = False  # starts nothing new
    ending: bool = False  # somebody removed it: its machines are ended, then it is forgotten


class MachineState(StrEnum):
    """Where a machine that we asked a provider for stands."""

    WANTED = "wanted"  # decided and stored; the provider may or may not have heard of it
    STARTING = "starting"  # the provider works on it; no agent has spoken yet
    UP = "up"  # its agent joined: it is a node
    STOPPING = "stopping"
    GONE = "gone"
    FAILED = "failed"  # it never came up, or was lost; `reason` says why


MACHINE_LIFE = Lifecycle(
    "machine",
    MachineState.WANTED,
    {
        MachineState.WANTED: (MachineState.STARTING, MachineState.UP, MachineState.STOPPING, MachineState.FAILED),
        MachineState.STARTING: (MachineState.UP, MachineState.STOPPING, MachineState.FAILED),
        MachineState.UP: (MachineState.STOPPING, MachineState.GONE, MachineState.FAILED),
        MachineState.STOPPING: (MachineState.GONE, MachineState.FAILED),
        MachineState.GONE: (),
        MachineState.FAILED: (),
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine(Record):
    """One machine that a fleet's provider starts, runs and ends for us. Its id makes starting it idempotent."""

    fleet: str
    offer: Offer
    state: MachineState = MachineState.WANTED
    handle: dict[str, str] = field(default_factory=dict)  # the provider's own words for it
    run: str = ""  # for which run it was started
    node: str = ""  # once its agent joined
    reason: str = ""  # what it does, why it is ended, or what went wrong
    broken: bool = False  # it ends by a failure, so its offer is left alone for a while
    started: float | None = None  # when its agent joined
    idle_since: float | None = None  # since when nothing needs it
    ended: float | None = None


FLEETS = Kind("fleet", Fleet, index=("name", "provider"), unique=("project", "name"), hot={})
MACHINES = Kind("machine", Machine, index=("fleet", "state", "run", "node"), hot={"state": MACHINE_LIFE.live})


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep(Record):
    """What stays of a priced machine when its record goes: enough to say what it has cost. It has the machine's id."""

    fleet: str  # its name
    machine: str  # what the provider called it
    node: str = ""
    price: float = 0.0  # per hour, for the whole machine
    ended: float = 0.0


UPKEEPS = Kind("upkeep", Upkeep)


# --------------------------------------------------------------------------- placement


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why one node cannot take one task of a role; or, where there are many nodes, why `count` of them cannot."""

    node: str
    role: str
    reason: str
    count: int = 1  # above 1: `node` is one of so many


@dataclass(frozen=True, slots=True)
class Assignment:
    """One task's place: the node, which of its accelerators, and what that costs per hour."""

    role: str
    index: int
    node: str
    gpus: tuple[int, ...] = ()
    price: float = 0.0
    offer: str = ""  # the node does not exist yet: `node` stands for one machine of this offer


@dataclass(frozen=True, slots=True)
class Placement:
    """What `place` answers: every assignment, or none and every reason."""

    assignments: tuple[Assignment, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    reason: str = ""  # in words, when there is no assignment

    @property
    def fits(self) -> bool:
        """Whether there is a place."""
        return bool(self.assignments)

    @property
    def price(self) -> float:
        """Per hour, for all tasks."""
        return sum(a.price for a in self.assignments)


@dataclass(frozen=True, slots=True)
class WhatIf:
    """One change to what a run asks for, and what it would bring."""

    words: str  # without the region eu-*; with max_price 1.90
    price: float  # per hour, for everything, where it would go then
    cheaper: float = 0.0  # by so much than now; 0 where there is no place now
    nodes: int = 0  # so many more nodes could take a task, were they free


Json = dict[str, Any]
