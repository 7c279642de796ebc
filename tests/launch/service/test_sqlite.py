"""The same service on SQLite and real time: what memory is lenient about, a database is not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from nexus.infra.clock import SystemClock, system_entropy
from nexus.infra.hints import Hints
from nexus.infra.records.sql import SqlRecords, build_tables, open_engine
from nexus.launch.model import NODES, QUOTAS, RUN_LIFE, RUNS, TASKS, USAGES, Run, RunState, Submission, TaskState
from nexus.launch.protocol import Desired, Report
from nexus.launch.service import Launch
from tests.launch.build import info, needs, plan, role, said
from tests.launch.service.house import ADA


class _Tracker:
    async def log_end(self, task_id: str) -> int:
        return 0

    async def resolve(self, project: str, reference: str) -> str:
        return "0" * 64


async def _mint(run: Run, task: str) -> str:
    return run.id


@pytest.mark.anyio
async def test_jobs_of_several_tasks_go_through_on_two_nodes(tmp_path: Path) -> None:
    tables = build_tables([RUNS, TASKS, NODES, QUOTAS, USAGES])
    engine = open_engine(f"sqlite:///{tmp_path / 'nexus.db'}")
    tables.create_all(engine)
    records = SqlRecords(engine, tables)
    launch = Launch(records, SystemClock(), system_entropy, hints=Hints(), tracker=_Tracker(), mint=_mint)
    loop = asyncio.ensure_future(launch.run_forever())
    agents = [asyncio.ensure_future(_agent(launch, name)) for name in ("a", "b")]
    try:
        four = plan(role(count=4, needs=needs(cpu=1)))
        runs = [await launch.submit(ADA, Submission(name=f"job{number}", plan=four)) for number in range(5)]
        for run in runs:
            seen = run
            while not RUN_LIFE.is_final(seen.state):
                seen = await asyncio.wait_for(launch.watch(ADA, run.id, seen.version, 5.0), 20.0)
            assert seen.state is RunState.SUCCEEDED
            assert len(await launch.tasks(ADA, run.id)) == 4
        epochs = [node.epoch for node in await launch.nodes(ADA)]
        assert sum(epochs) == 20
    finally:
        for one in (loop, *agents):
            one.cancel()
        await asyncio.gather(loop, *agents, return_exceptions=True)
        records.close()


async def _agent(launch: Launch, name: str) -> None:
    """Does every task at once."""
    node = await launch.join(info(name, cpu=2), "p")
    desired = Desired(version=0, heartbeat_s=1.0)
    while True:
        ended = tuple(said(order, TaskState.SUCCEEDED, exit_code=0) for order in desired.orders)
        desired = await launch.sync(node.id, Report(info=info(name, cpu=2), tasks=ended), desired.version, 5.0)
