"""Times that cost something, read from the records' own tables: a hundred thousand rows without a hundred thousand
records. Only what has a price is read, and only the few values that a bill needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from nexus.infra.records.sql import SqlRecords
from nexus.launch.model import FLEETS, MACHINES, RUNS, TASKS, UPKEEPS
from nexus.launch.ports import MachineSpan, Span

_AT_ONCE = 2000  # rows of an answer in memory


class SqlLedger:
    """Implements `launch.ports.Ledger`."""

    def __init__(self, records: SqlRecords) -> None:
        self._records = records

    async def tasks(self, project: str | None, since: float, until: float, take: Callable[[Span], None]) -> None:
        def read(connection: sa.Connection, tables: Any) -> None:
            task, run = tables[TASKS.name], tables[RUNS.name]
            value = _Values(connection)
            price, ended = value.number(task.c.doc, "price"), value.number(task.c.doc, "ended")
            query = (
                sa.select(task.c.project, task.c.run, run.c.name, run.c.user, task.c.node, price, task.c.created, ended)
                .select_from(task.outerjoin(run, run.c.id == task.c.run))
                .where(task.c.created < until, price > 0, sa.or_(ended.is_(None), ended > since))
            )
            if project is not None:
                query = query.where(task.c.project == project)
            for row in connection.execution_options(yield_per=_AT_ONCE).execute(query):
                project_, run_id, name, user, node, paid, start, end = row
                take(Span(project_, run_id, name or "", user or "", node, paid, start, end))

        await self._records.read(read)

    async def machines(self, project: str | None, since: float, until: float) -> list[MachineSpan]:
        def read(connection: sa.Connection, tables: Any) -> list[MachineSpan]:
            machine, fleet, upkeep = tables[MACHINES.name], tables[FLEETS.name], tables[UPKEEPS.name]
            value = _Values(connection)
            price, ended = value.number(machine.c.doc, "offer", "price"), value.number(machine.c.doc, "ended")
            begun = value.text(machine.c.doc, "handle") != "{}"
            there = (
                sa.select(
                    sa.func.coalesce(fleet.c.name, machine.c.fleet),
                    value.text(machine.c.doc, "offer", "machine"),
                    machine.c.node,
                    price,
                    machine.c.created,
                    ended,
                )
                .select_from(machine.outerjoin(fleet, fleet.c.id == machine.c.fleet))
                .where(machine.c.created < until, begun, price > 0, sa.or_(ended.is_(None), ended > since))
            )
            over = value.number(upkeep.c.doc, "ended")
            gone = sa.select(
                value.text(upkeep.c.doc, "fleet"),
                value.text(upkeep.c.doc, "machine"),
                value.text(upkeep.c.doc, "node"),
                value.number(upkeep.c.doc, "price"),
                upkeep.c.created,
                over,
            ).where(upkeep.c.created < until, over > since)
            if project is not None:
                there, gone = there.where(machine.c.project == project), gone.where(upkeep.c.project == project)
            return [MachineSpan(*row) for query in (there, gone) for row in connection.execute(query)]

        return await self._records.read(read)


class _Values:
    """Values inside the JSON of a record, in the words of either database."""

    def __init__(self, connection: sa.Connection) -> None:
        self._is_sqlite = connection.dialect.name == "sqlite"

    def number(self, doc: sa.Column[Any], *path: str) -> sa.ColumnElement[float]:
        return self.text(doc, *path) if self._is_sqlite else sa.cast(self.text(doc, *path), sa.Double)

    def text(self, doc: sa.Column[Any], *path: str) -> sa.ColumnElement[Any]:
        if self._is_sqlite:
            return sa.func.json_extract(doc, "$." + ".".join(path))
        return sa.func.json_extract_path_text(sa.cast(doc, sa.JSON), *path)
