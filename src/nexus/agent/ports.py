"""What an agent needs of the world. A simulation brings its own of each, and virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol

from nexus.agent.model import LocalTask, Parcel, Reading, Sighting
from nexus.launch.calls import Part
from nexus.launch.ports import Stream
from nexus.launch.protocol import ArtifactReport, CallOrder, Desired, Report, TaskOrder

Say = Callable[[str], None]  # a line by Nexus in the task's log
Meter = Callable[[TaskOrder], Reading | None]  # what a task uses now; None: it has no process, or nothing tells
UsedCpu = Callable[[TaskOrder], float | None]  # cpu-seconds of a task so far; None: this machine does not tell
Fetch = Callable[[str], AsyncIterator[bytes]]  # a blob's bytes by its digest


class Channel(Protocol):
    """The server, over the network. One try a call: the caller repeats what failed with UnavailableError.

    Calls may run at the same time. Every one raises UnavailableError (no answer; try again), DeniedError (the node's
    token is not known any more) or another of the server's errors.
    """

    async def sync(self, report: Report, *, since: int, wait_s: float) -> Desired:
        """Say what is; hear what should be. Waits up to `wait_s` while there is nothing newer than `since`."""
        ...

    async def ship(self, task: str, epoch: int, stream: str, offset: int, data: bytes) -> int:
        """Send bytes of a stream (`model.LOG`, or a metrics file); return how many the server has durably.

        Raises FencedError if the task is not this node's any more.
        """
        ...

    async def artifact(self, task: str, epoch: int, report: ArtifactReport) -> None:
        """Say that a blob, which was put before, is an output of the task. Raises FencedError."""
        ...

    async def has_blob(self, task: str, epoch: int, digest: str) -> bool:
        """Whether the project of the task has it. Raises FencedError."""
        ...

    async def put_blob(self, task: str, epoch: int, digest: str, size_b: int, chunks: AsyncIterator[bytes]) -> None:
        """Upload it. Raises LimitError if it is too large for the server, FencedError."""
        ...

    def get_blob(self, task: str, epoch: int, digest: str) -> AsyncIterator[bytes]:
        """Its bytes. Raises NotFoundError, FencedError."""
        ...


class Runner(Protocol):
    """Prepare, start and watch the processes of tasks."""

    async def prepare(self, order: TaskOrder, fetch: Fetch, say: Say) -> None:
        """Workspace, inputs and environment. May be called again after a crash or a cancellation.

        Raises NexusError, whose message is shown as the cause of failure.
        """
        ...

    async def choose_ports(self, order: TaskOrder) -> dict[str, int]:
        """A number for each of the order's ports; free ones where it asks for 0. Raises LimitError if taken."""
        ...

    async def start(self, order: TaskOrder, ports: dict[str, int], lease_until: float) -> None:
        """Start the task's process, whose lease ends at `lease_until` of the agent's monotonic clock.

        At most once in a task's life: what was started before stays as it is, dead or alive.
        """
        ...

    async def look(self, order: TaskOrder) -> Sighting:
        """What became of the process that `start` started; an empty sighting if it never did."""
        ...

    async def is_healthy(self, order: TaskOrder, ports: dict[str, int]) -> bool:
        """Whether the order's health check answers."""
        ...

    def extend(self, order: TaskOrder, lease_until: float) -> None:
        """Let the process live until then, even if this agent dies."""
        ...

    def stop(self, order: TaskOrder) -> None:
        """Ask the process, and all its children, to end: TERM, and KILL after the order's grace. May be repeated."""
        ...

    async def activity(self, order: TaskOrder, timeout_s: float) -> None:
        """Return when the task may have written something or ended, and after `timeout_s` at the latest."""
        ...

    async def remove(self, order: TaskOrder) -> None:
        """Forget the task: its files and its spool. Nothing happens if they are gone."""
        ...


class Spool(Protocol):
    """What tasks wrote and the server does not have yet, on this machine's disk."""

    def say(self, order: TaskOrder, text: str) -> None:
        """Add a line by Nexus to the task's log; only while no process of the task writes to it."""
        ...

    def ends(self, order: TaskOrder) -> dict[str, int]:
        """How many bytes each stream of the task has had; LOG is always there."""
        ...

    def read(self, order: TaskOrder, stream: str, offset: int, limit_b: int) -> bytes:
        """Bytes of a stream; empty at its end."""
        ...

    def record(self, order: TaskOrder, values: Mapping[str, float], step: int) -> None:
        """Add what was measured of the task to its metrics. Raises OSError if the disk is full."""
        ...

    def free(self, order: TaskOrder, stream: str, offset: int) -> None:
        """The server has everything before `offset`: room may be made."""
        ...

    async def requests(self, order: TaskOrder) -> Sequence[Parcel]:
        """What the job asked to keep while it runs, and `done` has not been said of."""
        ...

    async def outputs(self, order: TaskOrder) -> Sequence[Parcel]:
        """What the plan says to keep at the end; what is missing becomes a line in the log."""
        ...

    def open(self, order: TaskOrder, parcel: Parcel) -> AsyncIterator[bytes]:
        """The parcel's bytes."""
        ...

    def done(self, order: TaskOrder, parcel: Parcel) -> None:
        """The server has it."""
        ...


class Journal(Protocol):
    """What a restarted agent must know. Saving is on disk before it returns (but not safe from a power cut)."""

    def load(self) -> list[LocalTask]:
        """Every task that was saved and not dropped."""
        ...

    def save(self, task: LocalTask) -> None:
        """Remember it as it is now. Raises OSError if the disk is full."""
        ...

    def drop(self, order: TaskOrder) -> None:
        """Forget it."""
        ...


class Visitor(Protocol):
    """A process that was started for a call, in a task's environment or on the machine itself."""

    @property
    def outputs(self) -> tuple[Part, ...]:
        """Which of OUT and ERR there are: a terminal has only one."""
        ...

    async def read(self, output: Part) -> bytes:
        """What it wrote there; empty at the end."""
        ...

    async def write(self, data: bytes) -> None:
        """To its standard input, once there is room. What comes after its end is dropped."""
        ...

    def end_input(self) -> None:
        """Nothing more will be written."""
        ...

    def resize(self, rows: int, columns: int) -> None:
        """The caller's terminal has this size; nothing without one."""
        ...

    def signal(self, number: int) -> None:
        """To its process group."""
        ...

    async def wait(self) -> int:
        """Its exit code once it has ended; negative for a signal."""
        ...

    async def hang_up(self) -> None:
        """End it and what it started, if it has not: HUP, and soon KILL."""
        ...


class Connection(Protocol):
    """A TCP connection on this machine."""

    async def read(self) -> bytes:
        """What came; empty at the end. Raises UnavailableError when it was cut."""
        ...

    async def write(self, data: bytes) -> None:
        """Once there is room. Raises UnavailableError."""
        ...

    def end(self) -> None:
        """Nothing more will be written; reading may go on."""
        ...

    def close(self) -> None:
        """Both ways, at once."""
        ...


class Doors(Protocol):
    """The ways into what runs here."""

    async def start(self, call: CallOrder, task: TaskOrder | None) -> Visitor:
        """Start the call's command inside the task, or (None) on the machine itself.

        Raises ConflictError if the task has no process, MissingError for what cannot be done here.
        """
        ...

    async def leave(self, task: TaskOrder) -> None:
        """The task has ended: kill what its visitors left running."""
        ...

    async def connect(self, call: CallOrder, task: TaskOrder) -> Connection:
        """To the call's port. Raises ConflictError if nothing listens there."""
        ...


class Dial(Protocol):
    """The server's end of calls."""

    async def __call__(self, call_id: str) -> Stream:
        """Dial out for a call. Raises NotFoundError if nobody waits any more, UnavailableError."""
        ...
