"""What was spent: a bill of the project, or (for the server's owners) of all projects."""

from __future__ import annotations

from nexus.kernel.clock import Clock
from nexus.kernel.errors import UsageError
from nexus.kernel.identity import Principal, Role
from nexus.kernel.records import Records
from nexus.launch.core.costing import Bill, By, CostReport
from nexus.launch.model import NODES
from nexus.launch.ports import Ledger
from nexus.launch.service.context import EVERYTHING


class Costs:
    """The use cases of `nexus cost`."""

    def __init__(self, records: Records, clock: Clock, ledger: Ledger) -> None:
        self._records = records
        self._clock = clock
        self._ledger = ledger

    async def report(
        self, principal: Principal, by: By, *, since: float = 0.0, until: float | None = None, limit: int = 100
    ) -> CostReport:
        """The dearest `limit` lines between two moments, and the sum of the others. By project: of all projects.

        Raises UsageError when nothing can lie between the two, ForbiddenError.
        """
        principal.need(Role.VIEWER)
        project: str | None = principal.project
        if by is By.PROJECT and principal.owner:
            project = None
        now = self._clock.now()
        end = now if until is None else until
        if since >= end:
            raise UsageError("a bill ends after it begins", hint="Choose an earlier --since.")
        bill = Bill(by, since, end, now)
        await self._ledger.tasks(project, since, end, bill.add)
        machines = await self._ledger.machines(project, since, end)
        names: dict[str, str] = {}
        if by is By.NODE:
            names = {machine.node: machine.name for machine in machines}
            mine = {} if project is None else {"project": project}
            names |= {node.id: node.name for node in await self._records.find(NODES, mine, limit=EVERYTHING)}
        return bill.report(machines, names, limit=limit)
