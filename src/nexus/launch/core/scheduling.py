"""One look at what may have changed, and what should: silent nodes, lost leases, runs going on, tasks getting nodes.

`decide` returns groups of changes, each whole by itself. Several groups may change the same node (each lease raises its
epoch) or the same project's usage, so versions count on from group to group; when one fails by a conflict, those that
build on it fail too, and the next look decides again. A look costs what it looks at, not what there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import nsmallest
from typing import Any

from nexus.kernel.errors import NexusError
from nexus.kernel.events import Event
from nexus.kernel.records import Kind, Record, altered
from nexus.launch.core.events import node_moved, run_moved, task_moved
from nexus.launch.core.exits import Place
from nexus.launch.core.filling import Filling
from nexus.launch.core.leasing import batches
from nexus.launch.core.lifecycle import Progress, advance
from nexus.launch.core.policy import Policy
from nexus.launch.core.queue.limits import charged
from nexus.launch.core.queue.shares import decayed
from nexus.launch.core.standing import Standing
from nexus.launch.model import (
    NODES,
    RUN_LIFE,
    RUNS,
    TASKS,
    USAGES,
    Cause,
    Node,
    NodeState,
    Run,
    RunState,
    Task,
    TaskState,
    Usage,
)

Change = tuple[Kind[Any], Record]
UNMET = 256  # so many waiting runs are told to those who start machines
_LATER_S = 0.001  # a timer that fires at the very moment of a limit would find it not yet passed


@dataclass(frozen=True, slots=True, kw_only=True)
class Agenda:
    """What to look at."""

    runs: Sequence[str] = ()
    nodes: Sequence[str] = ()
    leases: Sequence[str] = ()  # live tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What no record says."""

    monotonic: float
    silence: Mapping[str, float] = field(default_factory=dict)  # node -> seconds since it was last heard
    unrenewed: Mapping[str, float] = field(default_factory=dict)  # task -> seconds since its lease was last renewed
    broken: Mapping[str, str] = field(default_factory=dict)  # run -> why its inputs cannot be had
    coming: Mapping[str, str] = field(default_factory=dict)  # run -> which machines start for it, or why none does


@dataclass(frozen=True, slots=True)
class Unmet:
    """Tasks that want nodes at once, and for which no node has room."""

    run: Run
    wanted: tuple[Place, ...]
    spent: float  # what the run's other tasks cost per hour
    reason: str


@dataclass(frozen=True, slots=True)
class Group:
    """Changes that hold together."""

    changes: tuple[Change, ...]
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """What to apply; `stuck` names runs whose records contradict each other, which is a bug worth a log line."""

    groups: tuple[Group, ...]
    stuck: Mapping[str, str] = field(default_factory=dict)
    more: bool = False  # there is more to do at once

    def records(self, kind: Kind[Any]) -> list[Any]:
        """Every changed record of one kind."""
        return [record for group in self.groups for of, record in group.changes if of is kind]


def agenda(standing: Standing, now: float, monotonic: float, most: int) -> Agenda:
    """What has changed and what is due, taken off the standing's lists; of runs, `most`."""
    nodes = dict.fromkeys([*standing.touched_nodes, *standing.node_timers.due(monotonic)])
    leases = dict.fromkeys([*standing.touched_tasks, *standing.lease_timers.due(monotonic)])
    standing.touched_runs |= {run: None for run in standing.run_timers.due(now) if run in standing.runs}
    runs = [run for run, _ in zip(standing.touched_runs, range(most), strict=False)]
    for run in runs:
        del standing.touched_runs[run]
    standing.touched_nodes.clear()
    standing.touched_tasks.clear()
    return Agenda(runs=runs, nodes=list(nodes), leases=list(leases))


def decide(standing: Standing, agenda: Agenda, seen: Seen, now: float, policy: Policy) -> Decision:
    """Everything on the agenda that should change now. What is leased is held in `standing` already."""
    return _Look(standing, agenda, seen, now, policy).decide()


@dataclass(slots=True)
class _Step:
    """What becomes of one run in this look."""

    before: Run
    tasks: list[Task]
    progress: Progress
    leases: list[Task] = field(default_factory=list)
    nodes: dict[str, Node] = field(default_factory=dict)


class _Look:
    def __init__(self, standing: Standing, agenda: Agenda, seen: Seen, now: float, policy: Policy) -> None:
        self.standing, self.agenda, self.seen, self.now, self.policy = standing, agenda, seen, now, policy
        self.groups: list[Group] = []
        self.stuck: dict[str, str] = {}
        self.steps: dict[str, _Step] = {}
        self.nodes: dict[str, Node] = {}  # with the changes of groups that are made already
        self.usages: dict[str, Usage] = {}
        self.lost: dict[str, Task] = {}

    def decide(self) -> Decision:
        for node_id in self.agenda.nodes:
            if node_id in self.standing.nodes:
                self._watch(self.standing.nodes[node_id])
        touched = dict.fromkeys(self.agenda.runs)
        for task_id in self.agenda.leases:
            touched |= self._check_lease(task_id)
        for run_id in touched:
            for task in self.standing.books[run_id].live() if run_id in self.standing.books else ():
                node = self.standing.nodes.get(task.node)
                if node is not None and node.over:
                    self._lose(task, f"its machine is gone: {node.over}")
            if run_id in self.standing.runs:
                self._step(self.standing.runs[run_id])
        more = self._fill()
        for step in self.steps.values():
            self._write(step)
        self._orphans()
        return Decision(tuple(self.groups), self.stuck, more or bool(self.standing.touched_runs))

    # ------------------------------------------------------------------ nodes and leases

    def _watch(self, node: Node) -> None:
        silence = self.seen.silence.get(node.id, 0.0)
        state = node.state
        limits = [limit for limit in (self.policy.unreachable_s, self.policy.lost_s) if limit >= silence]
        if silence > self.policy.lost_s or node.over:
            state = NodeState.GONE
        elif silence > self.policy.unreachable_s and state is not NodeState.GONE:
            state = NodeState.UNREACHABLE
        if limits:
            self.standing.node_timers.set(node.id, self.seen.monotonic + limits[0] - silence + _LATER_S)
        if state is not node.state:
            moved = altered(node, state=state, seen=self.now - silence)
            self._add([(NODES, moved)], [node_moved(moved, self.now, silent_s=round(silence, 1))])

    def _check_lease(self, task_id: str) -> dict[str, None]:
        """Sets the next look at the lease; when it ran out, the run to look at."""
        task = self.standing.tasks.get(task_id)
        if task is None:
            return {}
        unrenewed = self.seen.unrenewed.get(task_id, 0.0)
        if unrenewed <= self.policy.lost_s:
            left = self.policy.lost_s - unrenewed
            self.standing.lease_timers.set(task_id, self.seen.monotonic + left + _LATER_S)
            return {}
        self._lose(task, f"its lease was not renewed for {unrenewed:.0f} s")
        return {task.run: None}

    def _lose(self, task: Task, detail: str) -> None:
        node = self.standing.nodes.get(task.node)
        cause = Cause.SPOT if node is not None and node.spot else Cause.NODE_LOST
        self.lost[task.id] = altered(
            task, state=TaskState.LOST, cause=cause, detail=detail, ended=self.now, healthy=False
        )

    def _orphans(self) -> None:
        """Lost leases of tasks whose run is over."""
        lost = [task for task in self.lost.values() if task.run not in self.standing.runs]
        self._add([(TASKS, task) for task in lost], [task_moved(task, self.now) for task in lost])

    # ------------------------------------------------------------------ runs

    def _step(self, run: Run) -> None:
        tasks = [self.lost.get(task.id, task) for task in self.standing.books[run.id].tasks.values()]
        try:
            progress = self._waits(run) or advance(run, tasks, self.now, self.policy)
        except NexusError as error:
            self.stuck[run.id] = error.message
            return
        self.standing.run_timers.set(run.id, progress.due)
        self.steps[run.id] = _Step(run, tasks, progress)

    def _waits(self, run: Run) -> Progress | None:
        """A queued run that other runs, or missing inputs, keep from starting."""
        if run.state is not RunState.QUEUED or run.wanted == "stop" or run.attempt:
            return None
        for run_id in run.plan.after:
            state = self._state_of(run_id)
            if state is None or (RUN_LIFE.is_final(state) and state is not RunState.SUCCEEDED):
                return self._fail(run, f"it waits for {run_id}, which {f'is {state}' if state else 'does not exist'}")
            if state is not RunState.SUCCEEDED:
                return Progress(altered(run, reason=f"waits for {run_id}, which is {state}", rejections=()))
        if run.id in self.seen.broken:
            return self._fail(run, self.seen.broken[run.id])
        return None

    def _state_of(self, run_id: str) -> RunState | None:
        run = self.standing.runs.get(run_id)
        return run.state if run is not None else self.standing.ended.get(run_id)

    def _fail(self, run: Run, reason: str) -> Progress:
        state = RUN_LIFE.move(run.state, RunState.FAILED)
        return Progress(altered(run, state=state, cause=Cause.SETUP, reason=reason, ended=self.now))

    # ------------------------------------------------------------------ places

    def _fill(self) -> bool:
        """Give nodes to whose turn it is; whether there is more to give at once."""
        stepped = list(self.steps)
        filling = Filling(self.standing, self.seen.coming, self.now, self.policy, stepped, self._progress_of)
        for step in self.steps.values():
            filling.wants(step.progress.run, step.progress.needed, step.tasks)
        for filled in filling.walk():
            step = self._step_of(filled.run)
            step.progress = replace(step.progress, run=filled.run, tasks=(*step.progress.tasks, *filled.stopped))
            for task in filled.leases:
                node = step.nodes.get(task.node) or self.nodes.get(task.node) or self.standing.nodes[task.node]
                step.nodes[task.node] = altered(node, epoch=node.epoch + 1)
                lease = altered(task, epoch=node.epoch + 1)
                step.leases.append(lease)
            if filled.leases:
                self._write(self.steps.pop(filled.run.id))
        return filling.more

    def _progress_of(self, run_id: str) -> tuple[Progress, list[Task]]:
        """How a run in the queue goes on: as stepped in this look, or now."""
        step = self.steps.get(run_id)
        if step is not None:
            return step.progress, step.tasks
        run = self.standing.runs[run_id]
        tasks = list(self.standing.books[run_id].tasks.values())
        return advance(run, tasks, self.now, self.policy), tasks

    def _step_of(self, run: Run) -> _Step:
        if run.id not in self.steps:
            progress, tasks = self._progress_of(run.id)
            self.steps[run.id] = _Step(self.standing.runs[run.id], tasks, progress)
        return self.steps[run.id]

    # ------------------------------------------------------------------ what is written

    def _write(self, step: _Step) -> None:
        run, after = step.before, step.progress.run
        changed = {task.id: task for task in step.tasks if task.id in self.lost}
        changed |= {task.id: task for task in step.progress.tasks}
        after = self._settled(after, step.tasks)
        events = [task_moved(task, self.now) for task in changed.values() if task.id in self.lost]
        events += [task_moved(task, self.now) for task in step.leases]
        if (after.state, after.reason) != (run.state, run.reason):
            events.append(run_moved(after, self.now))
        # With new tasks the run is written in any case: two schedulers must not both go on from the same record.
        is_news = after is not run and after != run
        records: list[Change] = [(RUNS, after)] if is_news or step.leases else []
        records += [(TASKS, task) for task in (*changed.values(), *step.leases)]
        records += [(NODES, node) for node in step.nodes.values()]
        self._add([*records, *self._charge(run, after)], events)

    def _settled(self, run: Run, tasks: Iterable[Task]) -> Run:
        """The run with what its ended tasks cost."""
        book = self.standing.books[run.id]
        held = list(tasks)
        cost, work = book.cost(held), book.work(held)
        same = abs(cost - run.cost) < 1e-9 and abs(work - run.work) < 1e-6  # sums in another order differ by less
        return run if same else altered(run, cost=cost, work=work)

    def _charge(self, run: Run, after: Run) -> Iterator[Change]:
        """The project's usage, together with what was added to the run's cost."""
        cost, work = after.cost - run.cost, after.work - run.work
        if not cost and not work:
            return
        blank = Usage(id=f"usage_{run.project}", project=run.project, created=self.now, at=self.now)
        usage = self.usages.get(run.project) or self.standing.usages.get(run.project) or blank
        work += decayed(usage, self.now, self.policy.memory_s)
        yield USAGES, altered(usage, spent=charged(usage.spent, cost, self.now), work=work, at=self.now)

    def _add(self, changes: Sequence[Change], events: Sequence[Event]) -> None:
        if not changes:
            return
        self.groups.append(Group(tuple(changes), tuple(events)))
        for _, record in changes:
            if isinstance(record, Node):
                self.nodes[record.id] = altered(record, version=record.version + 1)
            elif isinstance(record, Usage):
                self.usages[record.project] = altered(record, version=record.version + 1)


def unmet(standing: Standing) -> list[Unmet]:
    """What the runs of blocked lines want and no node has, of the first `UNMET` runs."""
    found: list[Unmet] = []
    for line in nsmallest(UNMET, standing.queue.blocked.values(), key=lambda line: -line.key.priority):
        for _, run_id in line.runs[: UNMET - len(found)]:
            run, tasks = standing.runs[run_id], standing.books[run_id].live()
            spent = sum(task.price for task in tasks)
            wanted = batches(run, standing.queue.wanted[run_id], tasks)
            found += [Unmet(run, tuple(places), spent, line.refused) for places in wanted]
    return found
