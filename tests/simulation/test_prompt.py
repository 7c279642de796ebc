"""In fair weather nothing waits for a heartbeat: news travels when it happens. Measured on virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from nexus.launch.model import RUN_LIFE, RolePlan, RunPlan, Submission
from tests.simulation.loop import VirtualLoop, run_virtually
from tests.simulation.world import POLICY, USER, Laws, World

JOBS = 6


def test_job_after_job_starts_at_once() -> None:
    """The agent once slept for half a heartbeat after every acknowledged end."""

    async def main(loop: VirtualLoop) -> list[float]:
        world = World(loop, 1, Laws(policy=replace(POLICY, heartbeat_s=60.0, lease_s=300.0)))
        await world.add_machine(4.0)
        waits: list[float] = []
        for number in range(JOBS):
            plan = RunPlan(kind="command", roles=(RolePlan(name="main", argv=("run", "0.2", "0")),))
            run = await world.launch.submit(USER, Submission(name=f"job{number}", plan=plan))
            while not RUN_LIFE.is_final((run := await world.launch.run(USER, run.id)).state):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            assert run.started is not None
            waits.append(run.started - run.created)
        return waits

    waits = run_virtually(1, main)
    assert len(waits) == JOBS
    assert max(waits) < 3.0, waits  # a machine takes up to 2 s to prepare; the heartbeat is a minute
