"""Bills from real tables, in SQLite and in PostgreSQL: who sees what, and nothing of a forgotten machine is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nexus.app.database import open_records
from nexus.infra.records.sql import SqlRecords
from nexus.kernel.errors import ForbiddenError, UsageError
from nexus.kernel.identity import Principal, PrincipalKind, Role
from nexus.kernel.records import Drop
from nexus.launch.adapters.ledger import SqlLedger
from nexus.launch.core.costing import By
from nexus.launch.core.machines import upkeep_of
from nexus.launch.model import FLEETS, MACHINES, NODES, RUNS, TASKS, UPKEEPS, Capacity, Fleet, Machine, Offer, TaskState
from nexus.launch.service.costs import Costs
from tests.launch.build import node, run, task

pytestmark = pytest.mark.anyio

ANN = Principal(PrincipalKind.USER, "ann", "p", Role.VIEWER)
OWNER = replace(ANN, subject="root", role=Role.ADMIN, owner=True)
NOW = 1_000_000.0


class Clock:
    def now(self) -> float:
        return NOW

    def monotonic(self) -> float:
        return NOW

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


@pytest.fixture(params=["sqlite", "postgres"])
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlRecords]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'nexus.db'}"
    else:
        new_database: Callable[[], str] = request.getfixturevalue("postgres")
        url = new_database()
    opened = open_records(url)
    yield opened
    opened.close()


def costs(records: SqlRecords) -> Costs:
    return Costs(records, Clock(), SqlLedger(records))


async def spend(records: SqlRecords) -> None:
    """Ann's run of an hour at 2.0, Bob's that runs since two hours at 3.0, one of another project, one for nothing."""
    hour = 3600.0
    held = task(id="t1", run="run_1", created=NOW - 5 * hour, price=2.0, version=0)
    done = replace(held, state=TaskState.SUCCEEDED, started=NOW - 5 * hour, ended=NOW - 4 * hour)
    await records.apply(
        (NODES, replace(node("a"), version=0, price=2.0)),
        (RUNS, run(id="run_1", name="digits", user="ann", version=0)),
        (RUNS, run(id="run_2", name="big", user="bob", version=0)),
        (RUNS, run(id="run_3", name="else", user="eve", version=0, project="q")),
        (TASKS, done),
        (TASKS, task(id="t2", run="run_2", node="node_gone", created=NOW - 2 * hour, price=3.0, version=0)),
        (TASKS, task(id="t3", run="run_3", project="q", created=NOW - hour, price=100.0, version=0)),
        (TASKS, task(id="t4", run="run_1", created=NOW - hour, price=0.0, version=0)),
    )


async def test_a_bill_is_the_projects_own(records: SqlRecords) -> None:
    await spend(records)
    report = await costs(records).report(ANN, By.RUN)
    assert [(row.label, row.user, round(row.cost, 6)) for row in report.rows] == [
        ("big", "bob", 6.0),
        ("digits", "ann", 2.0),
    ]
    assert report.total == pytest.approx(8.0)
    assert [row.key for row in (await costs(records).report(ANN, By.PROJECT)).rows] == ["p"]
    assert [row.label for row in (await costs(records).report(ANN, By.NODE)).rows] == ["node_gone", "a"]


async def test_owners_see_what_all_projects_spend(records: SqlRecords) -> None:
    await spend(records)
    report = await costs(records).report(OWNER, By.PROJECT)
    assert [(row.key, round(row.cost, 6)) for row in report.rows] == [("q", 100.0), ("p", 8.0)]
    assert len((await costs(records).report(OWNER, By.RUN)).rows) == 2, "by run: of the project one is in"


async def test_the_window_is_cut_to_the_second(records: SqlRecords) -> None:
    await spend(records)
    report = await costs(records).report(ANN, By.USER, since=NOW - 1800)
    assert [(row.key, round(row.cost, 6)) for row in report.rows] == [("bob", 1.5)]
    early = await costs(records).report(ANN, By.USER, since=NOW - 18000, until=NOW - 16200)
    assert [(row.key, round(row.cost, 6)) for row in early.rows] == [("ann", 1.0)]
    with pytest.raises(UsageError):
        await costs(records).report(ANN, By.USER, since=NOW)


async def test_machines_of_fleets_that_nobody_held_are_idle_also_once_they_are_forgotten(records: SqlRecords) -> None:
    offer = Offer(id="o", provider="slurm", machine="gpu-1", capacity=Capacity(), price=4.0)
    machine = Machine(
        id="mach_1", project="p", created=NOW - 3600, fleet="fleet_1", offer=offer, handle={"job": "1"}, node="node_a"
    )
    never = replace(machine, id="mach_2", handle={}, node="")  # its provider refused it
    held = task(id="t1", created=NOW - 3600, price=1.0, version=0, ended=NOW - 1800)
    fleet = Fleet(id="fleet_1", project="p", created=0.0, name="lab", provider="slurm")
    await records.apply((FLEETS, fleet), (MACHINES, machine), (MACHINES, never), (TASKS, held))
    report = await costs(records).report(ANN, By.RUN)
    assert [(one.fleet, round(one.cost, 6)) for one in report.idle] == [("lab", 3.5)]
    assert report.total == pytest.approx(4.0)

    over = replace(machine, version=1, ended=NOW)
    kept = upkeep_of(over, "lab")
    assert kept is not None
    assert upkeep_of(replace(never, ended=NOW), "lab") is None
    await records.apply(Drop(MACHINES, over), (UPKEEPS, kept))
    assert (await costs(records).report(ANN, By.RUN)).idle == report.idle
    assert (await costs(records).report(replace(ANN, project="q"), By.RUN)).total == 0.0


async def test_a_node_may_not_ask(records: SqlRecords) -> None:
    with pytest.raises(ForbiddenError):
        await costs(records).report(replace(ANN, kind=PrincipalKind.NODE), By.RUN)
