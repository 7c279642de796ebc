"""What an agent knows of its own tasks. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from nexus.launch.model import TASK_LIFE, Cause, TaskState
from nexus.launch.protocol import TaskOrder

LOG = "log"  # the name of a task's log among its streams; every other stream is a metrics file of the SDK


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a task's process ended. `killed_for`: timeout | lease | stop | memory (by its shim, or the last by the
    kernel), reboot, or nothing.

    Neither a code nor a signal: nobody saw the end, only its absence.
    """

    exit_code: int | None = None
    signal: int | None = None
    killed_for: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What the runner sees of a task: alive, or ended with an `exit`, or (neither) never started."""

    alive: bool = False
    exit: Exit | None = None
    detail: str = ""  # trouble that people should know of, such as a full disk

    @property
    def was_started(self) -> bool:
        """Whether there is, or was, a process."""
        return self.alive or self.exit is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalTask:
    """One task as the agent's journal remembers it: enough for a restarted agent to go on.

    `started` is written before the process is: after a crash in between, the runner tells which of the two came true,
    and nothing is ever started twice.
    """

    order: TaskOrder
    state: TaskState = TaskState.PREPARING
    detail: str = ""
    cause: Cause | None = None
    exit_code: int | None = None
    signal: int | None = None
    ports: dict[str, int] = field(default_factory=dict)
    healthy: bool = False
    idle: bool = False  # for longer than its order's idle_stop_s
    started: bool = False
    stop: Cause | None = None  # why it must end, once somebody decided so
    log_end: int = 0  # of an ended task

    @property
    def ended(self) -> bool:
        """Whether nothing follows its state."""
        return TASK_LIFE.is_final(self.state)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """Something of a task's to be kept by the server: a file, or a folder that was packed. `key` names its source."""

    key: str
    name: str
    digest: str
    size_b: int
    path: str = ""
    packed: bool = False
    kind: str = "artifact"
    meta: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a task uses at one moment. Counters grow from its start on; None: the machine does not tell."""

    lived_s: float  # since its process was started
    cpu_s: float
    memory_b: int
    read_b: int | None = None
    written_b: int | None = None
    gpu_percent: float | None = None  # the mean of its accelerators
    gpu_memory_b: int | None = None  # the sum
