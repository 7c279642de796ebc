"""The loop: load, decide, apply; woken by hints, and by the clock at the latest."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from nexus.kernel.errors import ConflictError
from nexus.launch.core.scheduling import Group, World
from nexus.launch.model import NODES, RUN_LIFE, RUNS, TASK_LIFE, TASKS, Node, Run, RunState, Task, TaskState
from nexus.launch.service.context import EVERYTHING, PROVISION, SCHEDULE, Context
from nexus.launch.service.inputs import Inputs

log = structlog.get_logger()
_CHUNK = 500  # ids in one query


class Scheduler:
    """Moves every run towards its end."""

    def __init__(self, context: Context, inputs: Inputs) -> None:
        self._context = context
        self._inputs = inputs

    async def run_forever(self) -> None:
        """Schedule until cancelled. A failed look is logged, and taken again at the next tick."""
        context = self._context
        while True:
            woken = context.hints.listen(SCHEDULE)
            try:
                clean = await self.schedule_once()
            except Exception as error:
                log.exception("launch.schedule_failed", error=str(error))
                clean = True
            if clean:
                await context.hints.until(woken, context.policy.tick_s, SCHEDULE)
            else:
                await context.clock.sleep(0)

    async def schedule_once(self) -> bool:
        """One look at the world, applied; False when a conflict says to look again at once."""
        context = self._context
        runs, tasks, nodes, after, broken = await self._load()
        now = context.clock.monotonic()
        live = [task.id for task in tasks if not TASK_LIFE.is_final(task.state)]
        world = World(
            runs=runs,
            tasks=tasks,
            nodes=nodes,
            silence=context.presence.silence([node.id for node in nodes], now),
            unrenewed=context.presence.unrenewed(live, now),
            after=after,
            broken=broken,
            coming=context.shortage.coming,
        )
        decision = context.rules.decide(world, context.clock.now(), context.policy)
        context.shortage.unmet = decision.unmet
        if decision.unmet:
            context.hints.hint(PROVISION)
        leased = [task.id for task in decision.records(TASKS) if task.version == 0]
        presence = context.presence
        presence.doom([task for group in decision.groups for task in _lost(group)], now)  # before anything is awaited
        presence.leased(leased, now)
        presence.forget([*live, *leased], [node.id for node in nodes], before=now - 2 * context.policy.lost_s)
        self._inputs.forget(run.id for run in runs)
        for run_id, why in decision.stuck.items():
            log.error("launch.run_stuck", run=run_id, why=why)
        clean = True
        for group in decision.groups:
            try:
                await context.commit(*group.changes, events=group.events)
            except ConflictError:
                presence.spare(_lost(group))
                clean = False
        return clean

    async def _load(self) -> tuple[list[Run], list[Task], list[Node], dict[str, RunState], dict[str, str]]:
        """Nodes first: a lease that somebody gives after that raises their versions, and ours then fails to apply."""
        records = self._context.records
        nodes = await records.find(NODES, limit=EVERYTHING)
        runs = await records.find(RUNS, {"state": [str(state) for state in RUN_LIFE.live]}, limit=EVERYTHING)
        live = await records.find(TASKS, {"state": [str(state) for state in TASK_LIFE.live]}, limit=EVERYTHING)
        tasks = {task.id: task for task in live}
        for start in range(0, len(runs), _CHUNK):
            ids = [run.id for run in runs[start : start + _CHUNK]]
            ended = {"run": ids, "state": [str(state) for state in TASK_LIFE.final]}
            tasks |= {task.id: task for task in await records.find(TASKS, ended, limit=EVERYTHING)}
        waiting = [run for run in runs if run.state is RunState.QUEUED]
        after = await self._after(waiting, {run.id: run.state for run in runs})
        broken = await self._inputs.broken([run for run in waiting if self._may_start(run, after)])
        return runs, list(tasks.values()), nodes, after, broken

    async def _after(self, waiting: Sequence[Run], known: dict[str, RunState]) -> dict[str, RunState]:
        """Where the runs that others wait for stand."""
        states: dict[str, RunState] = {}
        for run_id in {run_id for run in waiting for run_id in run.plan.after}:
            if run_id in known:
                states[run_id] = known[run_id]
            else:
                run = await self._context.records.get(RUNS, run_id)
                states |= {run_id: run.state} if run else {}
        return states

    def _may_start(self, run: Run, after: dict[str, RunState]) -> bool:
        return all(after.get(run_id) is RunState.SUCCEEDED for run_id in run.plan.after)


def _lost(group: Group) -> list[str]:
    return [record.id for _, record in group.changes if isinstance(record, Task) and record.state is TaskState.LOST]
