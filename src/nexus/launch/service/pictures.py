"""What each node should be told, kept up to date by what is committed: asking costs nothing when nothing moved."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from nexus.kernel.errors import NexusError
from nexus.kernel.events import Event
from nexus.kernel.records import Change, Drop
from nexus.launch.core.orders import order_of, without_secrets
from nexus.launch.model import RUN_LIFE, RUNS, TASK_LIFE, TASKS, Node, Run, RunPlan, Task, TaskState
from nexus.launch.protocol import CallOrder, NodeInfo, TaskOrder, TaskReport
from nexus.launch.service.context import EVERYTHING, Context
from nexus.launch.service.inputs import Inputs

_BEFORE_START = frozenset({TaskState.LEASED, TaskState.PREPARING, TaskState.READY})


@dataclass(eq=False, slots=True)
class Picture:
    """One node: its live tasks and their orders, what it last said, and what it was last told."""

    tasks: dict[str, Task]
    stale: set[str]  # tasks whose orders have to be made anew
    orders: dict[str, TaskOrder] = field(default_factory=dict)
    heard: dict[str, TaskReport] = field(default_factory=dict)  # the reports of `tasks` that were taken whole
    info: NodeInfo | None = None  # what the node said of itself, and
    node: Node | None = None  # the record that already says so
    acknowledged: frozenset[str] = frozenset()  # the ends that the last answer acknowledged
    version: int = 0
    _seen: dict[str, TaskOrder] = field(default_factory=dict)  # the orders by whose change the version grows
    _shown: tuple[object, ...] | None = None

    def learn(self, task: Task) -> Task | None:
        """The task has moved; what it was before."""
        before = self.tasks.get(task.id)
        if TASK_LIFE.is_final(task.state):
            for book in (self.tasks, self.orders, self.heard, self._seen):
                book.pop(task.id, None)
            self.stale.discard(task.id)
        else:
            self.tasks[task.id] = task
            self.stale.add(task.id)
        return before

    def order(self, order: TaskOrder) -> None:
        """The task's order, made anew."""
        self.orders[order.task] = order
        seen = without_secrets(order)
        if self._seen.get(order.task) != seen:
            self._seen[order.task] = seen

    def number(self, orders: Iterable[TaskOrder], calls: Sequence[CallOrder], at_least: int) -> int:
        """The version of an answer with these. It starts at the time, so that a restarted server's is higher."""
        shown = (*(self._seen[order.task] for order in orders), *calls)
        if shown != self._shown:
            self._shown = shown
            self.version = max(self.version + 1, at_least)
        return self.version


class Pictures:
    """Those of all nodes that have spoken since the server started."""

    def __init__(self, context: Context, inputs: Inputs) -> None:
        self._context = context
        self._inputs = inputs
        self._pictures: dict[str, Picture] = {}
        self._told: defaultdict[str, set[str]] = defaultdict(set)  # run -> nodes that have orders of it
        self._gathering: defaultdict[str, set[str]] = defaultdict(set)  # the same, of runs whose tasks know each other
        self._scales: dict[str, dict[str, int]] = {}
        self._commits = 0
        context.records.listen(self._committed)

    async def of(self, node_id: str) -> Picture:
        """The picture of a node."""
        while node_id not in self._pictures:
            before = self._commits
            live = {"node": node_id, "state": TASK_LIFE.live}
            found = await self._context.records.find(TASKS, live, limit=EVERYTHING)
            if before == self._commits:  # or what was found may be old already
                self._pictures[node_id] = Picture({task.id: task for task in found}, {task.id for task in found})
        return self._pictures[node_id]

    async def refresh(self, picture: Picture) -> None:
        """Make every stale order anew. What cannot be had now is asked for again the next time."""
        by_run: defaultdict[str, list[Task]] = defaultdict(list)
        for task_id in picture.stale:
            by_run[picture.tasks[task_id].run].append(picture.tasks[task_id])
        for run_id in sorted(by_run):
            run = await self._context.records.get(RUNS, run_id)
            if run is not None:
                await self._order(picture, run, by_run[run_id])

    async def _order(self, picture: Picture, run: Run, tasks: Sequence[Task]) -> None:
        nodes = {task.node for task in tasks}
        self._told[run.id] |= nodes
        mates: Sequence[Task] = ()
        if _knows_each_other(run.plan):
            self._gathering[run.id] |= nodes
            present = {"run": run.id, "state": TASK_LIFE.live}  # ended attempts may be many
            mates = await self._context.records.find(TASKS, present, limit=EVERYTHING)
        try:
            inputs, secrets = await self._inputs.digests(run), await self._inputs.secrets(run)
        except NexusError:
            # What the run names is gone. Tasks that started have theirs already; the others' leases run out.
            tasks, inputs, secrets = [task for task in tasks if task.state not in _BEFORE_START], {}, {}
        for task in tasks:
            token = await self._inputs.token(run, task.id) if task.state in _BEFORE_START else ""
            order = order_of(run, task, mates, self._context.policy, token=token, inputs=inputs, secrets=secrets)
            if picture.tasks.get(task.id) is task:  # or it has moved meanwhile, and is stale still
                picture.order(order)
                picture.stale.discard(task.id)

    # ------------------------------------------------------------------ what was committed

    def _committed(self, changes: Sequence[Change], _: Sequence[Event]) -> None:
        self._commits += 1
        for change in changes:
            record = change.record if isinstance(change, Drop) else change[1]
            if isinstance(record, Task):
                self._task(record)
            elif isinstance(record, Run):
                self._run(record)
            elif isinstance(record, Node) and isinstance(change, Drop):
                self._pictures.pop(record.id, None)

    def _task(self, task: Task) -> None:
        picture = self._pictures.get(task.node)
        before = picture.learn(task) if picture is not None else None
        if task.run in self._gathering and (before is None or _listening(before) != _listening(task)):
            self._spoil(task.run, self._gathering[task.run])

    def _run(self, run: Run) -> None:
        if RUN_LIFE.is_final(run.state):
            for book in (self._told, self._gathering, self._scales):
                book.pop(run.id, None)
        elif run.scale != self._scales.get(run.id, {}):
            self._scales[run.id] = run.scale
            self._spoil(run.id, self._told.get(run.id, ()))

    def _spoil(self, run_id: str, nodes: Iterable[str]) -> None:
        """The orders of the run's tasks on these nodes say something that is not so any more."""
        for node in nodes:
            picture = self._pictures.get(node)
            if picture is not None:
                picture.stale |= {task.id for task in picture.tasks.values() if task.run == run_id}


def _knows_each_other(plan: RunPlan) -> bool:
    return any(role.gang or role.ports for role in plan.roles)


def _listening(task: Task) -> tuple[object, ...]:
    return (task.state, task.address, task.ports)
