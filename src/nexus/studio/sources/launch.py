"""Runs and nodes for the pages: read from the records, changed through the Launch slice."""

from __future__ import annotations

from collections.abc import Sequence

from nexus.kernel.events import Event
from nexus.kernel.identity import Principal, Role
from nexus.kernel.records import Records, Value
from nexus.launch.model import MACHINE_LIFE, MACHINES, RUNS, TASKS, Machine, MachineState, Node, Run, Task
from nexus.launch.service.launch import Launch

_LOOK_AT_MOST = 5_000  # runs that one text search goes through
_PAGE = 500


class LaunchSource:
    """Implements `studio.ports.Launch`. Lists are read from the records, since pages filter as no other caller does."""

    def __init__(self, service: Launch, records: Records) -> None:
        self._service = service
        self._records = records

    async def runs(
        self,
        who: Principal,
        *,
        states: Sequence[str] = (),
        kinds: Sequence[str] = (),
        text: str = "",
        limit: int = 50,
        before: str = "",
    ) -> list[Run]:
        where: dict[str, Value | Sequence[Value]] = {"project": who.project}
        if states:
            where["state"] = list(states)
        if kinds:
            where["kind"] = list(kinds)
        last = await self._records.get(RUNS, before) if before else None
        found: list[Run] = []
        for _ in range(_LOOK_AT_MOST // _PAGE):
            page = await self._records.find(RUNS, where, newest=True, limit=_PAGE if text else limit, before=last)
            found += [run for run in page if _says(run, text)]
            if not text or len(found) >= limit or len(page) < _PAGE:
                break
            last = page[-1]
        return found[:limit]

    async def run(self, who: Principal, run: str) -> Run:
        (found,) = await self._service.priced([await self._service.run(who, run)])
        return found

    async def tasks_of(self, who: Principal, runs: Sequence[str]) -> list[Task]:
        if not runs:
            return []
        return await self._records.find(TASKS, {"project": who.project, "run": list(runs)}, limit=10_000)

    async def events(self, who: Principal, run: str, limit: int = 200) -> list[Event]:
        newest = await self._service.events(who, subject=run, limit=limit, newest=True)
        return newest[::-1]

    async def stop(self, who: Principal, run: str) -> Run:
        return await self._service.stop(who, run)

    async def again(self, who: Principal, run: str) -> Run:
        return await self._service.restart(who, run)

    async def nodes(self, who: Principal) -> list[Node]:
        return await self._service.nodes(who)

    async def held(self, who: Principal) -> list[Task]:
        return await self._service.held(who)

    async def coming(self, who: Principal) -> list[Machine]:
        who.need(Role.VIEWER)
        states = [str(state) for state in MACHINE_LIFE.live if state is not MachineState.UP]
        return await self._records.find(MACHINES, {"project": who.project, "state": states})


def _says(run: Run, text: str) -> bool:
    wanted = text.lower()
    return not text or any(wanted in part.lower() for part in (run.name, run.kind, run.user, run.id))
