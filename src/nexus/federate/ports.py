"""What Federate's control plane needs of the rest of the house."""

from __future__ import annotations

from typing import Protocol


class Runs(Protocol):
    """Look up runs; the application wires it to launch."""

    async def project_of(self, run: str) -> str | None:
        """The project that a run belongs to; None if there is no such run."""
        ...
