"""Which run and whose streams: every query begins here, so that no project sees another's."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from nexus.kernel.clock import Clock
from nexus.kernel.errors import ConflictError, NotFoundError
from nexus.kernel.identity import Principal, Role
from nexus.kernel.records import Records
from nexus.track.model import STREAMS, Stream, StreamOwner
from nexus.track.ports import Runs, RunStatus


@dataclass(frozen=True, slots=True)
class RunStreams:
    """A run of the caller's project and the tasks that have sent something."""

    run: RunStatus
    streams: tuple[Stream, ...]


class Access:
    """Finds runs and streams for a caller, and remembers owners."""

    def __init__(self, records: Records, runs: Runs, clock: Clock) -> None:
        self._records = records
        self._runs = runs
        self._clock = clock
        self._remembered: set[str] = set()

    async def run(self, principal: Principal, run: str) -> RunStatus:
        """The run by id or name. Raises NotFoundError, ForbiddenError."""
        principal.need(Role.VIEWER)
        return await self.run_in(principal.project, run)

    async def run_in(self, project: str, run: str) -> RunStatus:
        """The run by id or name in a project. Raises NotFoundError."""
        found = await self._runs.find(project, run)
        if found is None or found.project != project:
            raise NotFoundError(f"no such run: {run}", hint="`nexus runs` lists them.")
        return found

    async def streams(self, principal: Principal, run: str) -> RunStreams:
        """The run and its tasks' streams. Raises NotFoundError, ForbiddenError."""
        status = await self.run(principal, run)
        return RunStreams(status, tuple(await self.streams_of(status)))

    async def streams_of(self, run: RunStatus) -> list[Stream]:
        """The tasks of a run that have sent something, in the order of their first words."""
        found: list[Stream] = []
        while True:
            page = await self._records.find(
                STREAMS, {"run": run.id, "project": run.project}, before=found[-1] if found else None
            )
            found += page
            if len(page) < 1000:
                return found

    async def remember(self, owner: StreamOwner) -> None:
        """Note that this task sends something."""
        if owner.task in self._remembered:
            return
        if await self._records.get(STREAMS, owner.task) is None:
            stream = Stream(
                id=owner.task,
                project=owner.project,
                created=self._clock.now(),
                run=owner.run,
                role=owner.role,
                index=owner.index,
                attempt=owner.attempt,
            )
            with suppress(ConflictError):  # the same words, said at the same moment by another request
                await self._records.apply((STREAMS, stream))
        if len(self._remembered) > 100_000:
            self._remembered.clear()
        self._remembered.add(owner.task)
