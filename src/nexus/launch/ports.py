"""What Launch needs of the rest of the house."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from nexus.launch.model import Run

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


def log_topic(task_id: str) -> str:
    """The hint to give when bytes of a task's log arrived: an end that waits for them becomes visible at once."""
    return f"log:{task_id}"
