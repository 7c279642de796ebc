"""What Deploy needs of the world."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from nexus.deploy.model import Routes
from nexus.launch.model import Run, Submission, Task


class Jobs(Protocol):
    """Runs of role `replica`; `launch.service` implements it."""

    async def submit(self, submission: Submission, *, project: str, user: str) -> Run:
        """A new run; the same `submission.key` again gives the same run."""
        ...

    async def scale(self, run_id: str, role: str, count: int) -> Run:
        """Want `count` tasks of `role`; the highest indices go first. Raises ConflictError for a run that ended."""
        ...

    async def stop(self, run_id: str) -> Run:
        """Stop every task, with the plan's grace. Nothing happens to a run that has ended. Raises NotFoundError."""
        ...

    async def run(self, run_id: str) -> Run:
        """The run as it stands. Raises NotFoundError."""
        ...

    async def tasks(self, run_id: str) -> Sequence[Task]:
        """Its tasks, ended attempts too."""
        ...


class Models(Protocol):
    """The registry; `track` implements it."""

    async def pin(self, project: str, reference: str) -> str:
        """`model://digits@latest` as `model://digits@3`. Raises NotFoundError, with the names that exist."""
        ...


class Traffic(Protocol):
    """The gateway, as the control plane sees it."""

    @property
    def url(self) -> str:
        """Where clients reach it."""
        ...

    def follow(self, routes: Routes) -> None:
        """Use these routes from now on; requests under way finish where they are."""
        ...

    def outstanding(self, replica: str) -> int:
        """Requests that this replica has not finished answering."""
        ...

    def counted(self, project: str, endpoint: str) -> tuple[int, int]:
        """Requests answered so far, and how many of them with a 5xx status."""
        ...
