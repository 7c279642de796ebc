"""The loop: look at what changed, decide, apply; woken by commits, and by the clock at the latest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from nexus.kernel.errors import ConflictError
from nexus.kernel.events import Event
from nexus.kernel.records import Change, Record
from nexus.launch.core.queue.views import Waiting
from nexus.launch.core.scheduling import Agenda, Decision, Group, Seen, agenda, unmet
from nexus.launch.core.standing import Snapshot, Standing
from nexus.launch.core.waiting import waiting
from nexus.launch.model import (
    NODES,
    QUOTAS,
    RUN_LIFE,
    RUNS,
    TASK_LIFE,
    TASKS,
    USAGES,
    Run,
    RunState,
    Task,
    TaskState,
)
from nexus.launch.service.context import EVERYTHING, PROVISION, SCHEDULE, Context
from nexus.launch.service.inputs import Inputs

log = structlog.get_logger()
_CHUNK = 500  # ids in one query
_QUEUED_AGAIN = 3  # the version of a queued run that may have had tasks: handed in, leased, queued again


class Scheduler:
    """Moves every run towards its end."""

    def __init__(self, context: Context, inputs: Inputs) -> None:
        self._context = context
        self._inputs = inputs
        self._standing: Standing | None = None
        self._built = 0.0  # when, on the monotonic clock
        self._heard: list[Change] = []  # while a standing is being built
        self._stop: Callable[[], None] = lambda: None
        self._coming: Mapping[str, str] = {}

    def waiting(self, run: Run) -> Waiting:
        """Why the run waits, as far as the queue is concerned."""
        if self._standing is None:  # it has not looked yet
            return Waiting()
        return waiting(self._standing, run, self._context.clock.now(), self._context.policy)

    async def run_forever(self) -> None:
        """Schedule until cancelled. A failed look is logged, and everything is looked at anew at the next tick."""
        context = self._context
        try:
            while True:
                woken = context.hints.listen(SCHEDULE)
                try:
                    clean = await self.schedule_once()
                except Exception as error:
                    log.exception("launch.schedule_failed", error=str(error))
                    self._standing = None
                    clean = True
                if clean:
                    await context.hints.until(woken, context.policy.tick_s, SCHEDULE)
                else:
                    context.hints.drop(woken, SCHEDULE)
                    await context.clock.sleep(0)
        finally:
            self._stop()

    async def schedule_once(self) -> bool:
        """One look at what changed, applied; False when there is more to look at already."""
        context = self._context
        standing = await self._present()
        self._hear_of_machines(standing)
        now, monotonic = context.clock.now(), context.clock.monotonic()
        todo = agenda(standing, now, monotonic, context.policy.steps)
        try:
            await self._look_up(standing, todo)
            seen = Seen(
                monotonic=monotonic,
                silence=context.presence.silence(todo.nodes, monotonic),
                unrenewed=context.presence.unrenewed(todo.leases, monotonic),
                broken=await self._broken(standing, todo),
                coming=context.shortage.coming,
            )
            decision = context.rules.decide(standing, todo, seen, now, context.policy)
            for run_id, why in decision.stuck.items():
                log.error("launch.run_stuck", run=run_id, why=why)
            clean = await self._apply(standing, decision, monotonic)
        except BaseException:  # what was taken off the lists must not be forgotten
            self._standing = None
            raise
        if standing.queue or context.shortage.unmet:
            context.shortage.unmet = unmet(standing)
            if context.shortage.unmet:
                context.hints.hint(PROVISION)
        return clean and not decision.more

    # ------------------------------------------------------------------ what is known

    async def _present(self) -> Standing:
        """The standing; built anew at first, in doubt, and from time to time."""
        policy, monotonic = self._context.policy, self._context.clock.monotonic()
        old = self._standing
        if old is not None and not old.doubt and monotonic - self._built < policy.rebuild_s:
            return old
        if old is not None and old.doubt:
            log.warning("launch.scheduler_in_doubt", why=old.doubt)
        self._stop()
        self._standing, self._heard = None, []
        self._stop = self._context.records.listen(self._hear)
        standing = Standing.of(await self._snapshot())
        standing.learn(self._heard)
        standing.doubt = ""
        if old is not None and not old.doubt and (wrong := old.differences(standing)):
            log.error("launch.scheduler_was_wrong", about=wrong[:5])
        self._standing, self._built = standing, monotonic
        self._context.presence.forget(standing.tasks, standing.nodes, before=monotonic - 2 * policy.lost_s)
        self._inputs.forget(standing.runs)
        return standing

    def _hear(self, changes: Sequence[Change], _: Sequence[Event]) -> None:
        if self._standing is None:
            self._heard += changes
        else:
            self._standing.learn(changes)

    async def _snapshot(self) -> Snapshot:
        """Everything that is not over. What changes meanwhile is heard, and learned on top of it."""
        records = self._context.records
        nodes = await records.find(NODES, limit=EVERYTHING)
        runs = await records.find(RUNS, {"state": [str(state) for state in RUN_LIFE.live]}, limit=EVERYTHING)
        live = await records.find(TASKS, {"state": [str(state) for state in TASK_LIFE.live]}, limit=EVERYTHING)
        tasks = {task.id: task for task in live}
        began = [run.id for run in runs if run.state is not RunState.QUEUED or run.version >= _QUEUED_AGAIN]
        for start in range(0, len(began), _CHUNK):
            ended = {"run": began[start : start + _CHUNK], "state": [str(state) for state in TASK_LIFE.final]}
            tasks |= {task.id: task for task in await records.find(TASKS, ended, limit=EVERYTHING)}
        return Snapshot(
            runs=runs,
            tasks=list(tasks.values()),
            nodes=nodes,
            quotas=await records.find(QUOTAS, limit=EVERYTHING),
            usages=await records.find(USAGES, limit=EVERYTHING),
        )

    async def _look_up(self, standing: Standing, todo: Agenda) -> None:
        """Where the runs that others wait for, and that are over, stand."""
        for run_id in todo.runs:
            run = standing.runs.get(run_id)
            for other in run.plan.after if run is not None and run.state is RunState.QUEUED else ():
                if other not in standing.runs and other not in standing.ended:
                    found = await self._context.records.get(RUNS, other)
                    if found is not None and RUN_LIFE.is_final(found.state):
                        standing.ended[other] = found.state

    async def _broken(self, standing: Standing, todo: Agenda) -> dict[str, str]:
        """Why runs that could start now never will."""
        runs = [standing.runs[run_id] for run_id in todo.runs if run_id in standing.runs]
        return await self._inputs.broken([run for run in runs if _needs_inputs(run) and _may_start(run, standing)])

    def _hear_of_machines(self, standing: Standing) -> None:
        """Runs for which machines start, or none does any more, say so."""
        coming = self._context.shortage.coming
        if coming is not self._coming:
            changed = [run for run in {**self._coming, **coming} if self._coming.get(run) != coming.get(run)]
            standing.touched_runs |= {run: None for run in sorted(changed) if run in standing.runs}
            self._coming = dict(coming)

    # ------------------------------------------------------------------ what is done

    async def _apply(self, standing: Standing, decision: Decision, monotonic: float) -> bool:
        """All groups in one transaction; if that fails, one by one, so that one conflict hurts one run."""
        presence = self._context.presence
        presence.doom([task for group in decision.groups for task in _lost(group)], monotonic)  # before any waiting
        presence.leased([task.id for task in decision.records(TASKS) if task.version == 0], monotonic)
        if not decision.groups:
            return True
        if len(decision.groups) > 1:
            try:
                await self._context.commit(*_together(decision.groups), events=_events(decision.groups))
            except ConflictError:
                pass
            else:
                return True
        clean = True
        for group in decision.groups:
            try:
                await self._context.commit(*group.changes, events=group.events)
            except ConflictError:
                presence.spare(_lost(group))
                standing.undo(group.changes)
                clean = False
        return clean


def _needs_inputs(run: Run) -> bool:
    return run.state is RunState.QUEUED and not run.attempt and bool(run.plan.inputs or run.plan.secrets)


def _may_start(run: Run, standing: Standing) -> bool:
    return all(standing.ended.get(other) is RunState.SUCCEEDED for other in run.plan.after)


def _together(groups: Sequence[Group]) -> list[Change]:
    """The changes of all groups: of a record that several change, the last, on the version that the first built on."""
    first: dict[str, int] = {}
    last: dict[str, tuple[Any, Record]] = {}
    for group in groups:
        for kind, record in group.changes:
            first.setdefault(record.id, record.version)
            last[record.id] = kind, record
    return [(kind, replace(record, version=first[record.id])) for kind, record in last.values()]


def _events(groups: Sequence[Group]) -> list[Event]:
    return [event for group in groups for event in group.events]


def _lost(group: Group) -> list[str]:
    return [record.id for _, record in group.changes if isinstance(record, Task) and record.state is TaskState.LOST]
