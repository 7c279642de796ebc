"""What Federate's control plane needs of the rest of the house."""

from __future__ import annotations

from typing import Protocol


class FoundRun(Protocol):
    """What Federate needs to know of a run."""

    @property
    def id(self) -> str:
        """Its id, whatever it was asked for by."""
        ...

    @property
    def project(self) -> str:
        """Whose it is."""
        ...


class Runs(Protocol):
    """Look up runs; the application wires it to launch."""

    async def find(self, project: str, run: str) -> FoundRun | None:
        """The project's run by id, or the newest of that name; None if there is none."""
        ...


class Vouch(Protocol):
    """What makes a task's word the control plane's; the application wires it to launch and access."""

    async def place(self, run: str, task: str) -> tuple[str, int] | None:
        """The role and index of a task of the run that has not ended; None if there is no such task."""
        ...

    def secret(self, run: str) -> bytes:
        """What only this control plane knows, the same for a run whenever it is asked for."""
        ...
