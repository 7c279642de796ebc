"""What tracking needs of the world. The application wires `Runs` and `Leases` to launch, which track cannot see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nexus.track.model import Batch, Points, Series, StreamOwner


class MetricStore(Protocol):
    """Keep numbers by series. What `append` has returned survives the end of the process (kill -9)."""

    async def append(self, batch: Batch) -> int:
        """Store the batch and return `batch.end`.

        Raises ConflictError, with `expected` in its details, unless the stream ends at `batch.start` now.
        """
        ...

    async def end(self, task: str, stream: str) -> int:
        """How many bytes of this stream were taken."""
        ...

    async def series(self, runs: Sequence[str]) -> list[Series]:
        """Every series of these runs, by run, key and age: never touches their points."""
        ...

    async def points(self, series: str, *, after: int = 0, limit: int = 10_000) -> Points:
        """The points from number `after` on, in the order in which they came; at most `limit`."""
        ...

    async def chart(self, series: str, count: int) -> Points:
        """At most about `count` points that draw like all: the lowest and highest of each stretch, and what is NaN."""
        ...

    async def params(self, run: str) -> dict[str, Any]:
        """The run's parameters; a later value has replaced an earlier one."""
        ...


@dataclass(frozen=True, slots=True)
class Hit:
    """A frame that was searched for, and the byte of its stream at which it begins."""

    offset: int
    frame: bytes


class LogStore(Protocol):
    """Keep each task's log: the bytes of its `kernel.logframes`, exactly as they were sent.

    What `append` has returned survives the end of the process (kill -9); a power cut may cost the last seconds.
    """

    async def append(self, task: str, offset: int, data: bytes) -> int:
        """Add `data`, which begins at byte `offset` of the stream; return the stream's new end.

        What is there already is skipped. Raises ConflictError, with `expected` in its details, if bytes are missing
        before `offset`; LimitError if the disk is full.
        """
        ...

    async def end(self, task: str) -> int:
        """How many bytes are kept."""
        ...

    async def read(self, task: str, start: int, limit_b: int) -> bytes:
        """The bytes from `start` on; at most `limit_b`. Empty at the end."""
        ...

    async def tail(self, task: str, lines: int) -> int:
        """The byte at which the last `lines` frames begin."""
        ...

    async def seek(self, task: str, at_ms: int) -> int:
        """A byte at which a frame begins, before which nothing is younger than `at_ms`; close to it."""
        ...

    async def lines(self, task: str) -> int:
        """How many frames are kept."""
        ...

    async def search(self, task: str, text: str, *, start: int = 0, limit: int = 100) -> list[Hit]:
        """The frames from byte `start` on whose line holds `text`."""
        ...


@dataclass(frozen=True, slots=True)
class RunStatus:
    """What tracking must know of a run. `ended`: no task of it will send anything any more."""

    id: str
    project: str
    name: str
    state: str
    ended: bool


class Runs(Protocol):
    """Look up runs."""

    async def find(self, project: str, run: str) -> RunStatus | None:
        """The run of this project with that id, the newest with that name, or the only one whose id begins so.

        None if there is none. Raises UsageError when several ids begin so.
        """
        ...


class Leases(Protocol):
    """Who holds a task."""

    async def owner(self, node_id: str, task_id: str, epoch: int) -> StreamOwner:
        """Whose stream it is. Raises FencedError if this node does not hold that lease (any more)."""
        ...
