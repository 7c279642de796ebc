"""What must always hold, checked at every change of the records and at every start of a process."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from nexus.infra.records.memory import MemoryRecords
from nexus.kernel.events import Event
from nexus.kernel.records import Drop, Kind, Record
from nexus.launch.core.lifecycle import held_cost
from nexus.launch.model import RUN_LIFE, TASK_LIFE, Cause, Node, Quota, Run, RunState, Task, TaskState, Usage
from tests.simulation.machine import Machine, Process


class BrokenError(AssertionError):
    """An invariant does not hold."""


def need(holds: bool, words: str) -> None:
    if not holds:
        raise BrokenError(words)


class WatchedRecords(MemoryRecords):
    """Records that look at every transaction: the invariants of the control plane."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes: dict[str, Node] = {}
        self.runs: dict[str, Run] = {}
        self.tasks: dict[str, Task] = {}
        self.epochs: defaultdict[str, int] = defaultdict(int)
        self.quotas: dict[str, Quota] = {}
        self.spent: dict[str, float] = {}  # by project, as its usage says
        self.preemptions = 0
        self.stopped: set[str] = set()  # runs whose stop was acknowledged
        self.on_end: Callable[[Task], None] = lambda _: None  # a task's end became visible
        self.broken: BrokenError | None = None  # what the loop's callers may have swallowed

    async def apply(self, *changes: tuple[Kind[Any], Record] | Drop, events: Sequence[Event] = ()) -> None:
        await super().apply(*changes, events=events)
        try:
            for change in sorted(changes, key=_tasks_first):
                record = change.record if isinstance(change, Drop) else change[1]
                self._take(record, dropped=isinstance(change, Drop))
            self._check_leases()
            self._check_quotas([change for change in changes if not isinstance(change, Drop)])
            self._check_ledger()
        except BrokenError as error:
            self.broken = self.broken or error
            raise

    def _take(self, record: Record, *, dropped: bool) -> None:
        if isinstance(record, Run):
            self._run(record)
            self.runs[record.id] = record
        elif isinstance(record, Task):
            self._task(record)
            self.tasks[record.id] = record
        elif isinstance(record, Quota):
            self.quotas[record.project] = record
        elif isinstance(record, Usage):
            self.spent[record.project] = sum(record.spent.values())
        elif isinstance(record, Node):
            if dropped:
                self.nodes.pop(record.id)
            else:
                self.nodes[record.id] = record

    def _run(self, run: Run) -> None:
        old = self.runs.get(run.id)
        state = old.state if old else RUN_LIFE.start
        need(RUN_LIFE.may(state, run.state), f"run {run.id} went from {state} to {run.state}")
        failures = run.attempt - run.preempted
        need(failures <= run.plan.retry.max, f"run {run.id} was tried {failures + 1} times")
        if old is not None and old.cause is Cause.PREEMPTED and run.state is RunState.QUEUED is not old.state:
            need(run.preempted == old.preempted + 1, f"run {run.id} made room, and that counts as a failure")
        if run.cause is Cause.PREEMPTED and state is not run.state:
            self._preempted(run)
        stopped = run.id in self.stopped
        need(
            not (stopped and run.state is RunState.SUCCEEDED), f"run {run.id} succeeded after its stop was acknowledged"
        )
        if RUN_LIFE.is_final(run.state) and not RUN_LIFE.is_final(state):
            mine = [task for task in self.tasks.values() if task.run == run.id]
            live = [task.id for task in mine if not TASK_LIFE.is_final(task.state)]
            need(not live, f"run {run.id} is {run.state} while {live} live")
            expected = sum(held_cost(task, run.ended or 0.0) for task in mine)
            need(abs(run.cost - expected) < 1e-9, f"run {run.id} cost {run.cost}, its tasks {expected}")

    def _preempted(self, run: Run) -> None:
        """Only upward, and only who allows it."""
        if not (room := re.search(r"made room for .* \((\w+)\)", run.reason)):
            return  # it ran on room that was kept for another
        self.preemptions += 1
        other = self.runs[room[1]]
        need(run.plan.preemptible, f"run {run.id} was preempted, and does not allow it")
        need(other.plan.priority > run.plan.priority, f"run {run.id} was preempted for one that is not above it")

    def _check_quotas(self, changes: Sequence[tuple[Kind[Any], Record]]) -> None:
        """Whoever gets a new lease is within its quota with it."""
        for project in {record.project for _, record in changes if isinstance(record, Task) and record.version == 0}:
            quota = self.quotas.get(project)
            if quota is not None and quota.cpu is not None:
                mine = [task for task in self.tasks.values() if task.project == project]
                cpu = sum(task.cpu for task in mine if not TASK_LIFE.is_final(task.state))
                need(cpu <= quota.cpu + 1e-9, f"project {project} may hold {quota.cpu} cpu and has {cpu}")

    def _check_ledger(self) -> None:
        """Every project's usage is what its runs cost."""
        costs: defaultdict[str, float] = defaultdict(float)
        for run in self.runs.values():
            costs[run.project] += run.cost
        for project, cost in costs.items():
            spent = self.spent.get(project, 0.0)
            need(abs(spent - cost) < 1e-6, f"project {project} is charged {spent}, its runs cost {cost}")

    def _task(self, task: Task) -> None:
        old = self.tasks.get(task.id)
        state = old.state if old else TASK_LIFE.start
        need(TASK_LIFE.may(state, task.state), f"task {task.id} went from {state} to {task.state}")
        if old is None:
            need(task.epoch > self.epochs[task.node], f"epoch {task.epoch} was given twice on {task.node}")
            self.epochs[task.node] = task.epoch

        if TASK_LIFE.is_final(task.state) and not TASK_LIFE.is_final(state):
            self.on_end(task)

    def _check_leases(self) -> None:
        places: set[tuple[str, str, int]] = set()
        cpu: defaultdict[str, float] = defaultdict(float)
        gpus: set[tuple[str, int]] = set()
        for task in self.tasks.values():
            if TASK_LIFE.is_final(task.state):
                continue
            for gpu in task.gpus:
                need((task.node, gpu) not in gpus, f"two live leases of GPU {gpu} of {task.node}")
                gpus.add((task.node, gpu))
            place = (task.run, task.role, task.index)
            need(place not in places, f"two live leases of {place}")
            places.add(place)
            cpu[task.node] += task.cpu
        for node, used in cpu.items():
            need(node in self.nodes, f"node {node} was removed with live tasks")
            has = self.nodes[node].capacity.cpu
            need(used <= has + 1e-9, f"node {node} has {has} cpu and gives {used}")


def _tasks_first(change: tuple[Kind[Any], Record] | Drop) -> bool:
    """A run's end is judged by its tasks as they are after the same transaction."""
    return isinstance(change, Drop) or not isinstance(change[1], Task)


class Floor:
    """Where processes really run: the invariants of the physical world."""

    def __init__(self, records: WatchedRecords) -> None:
        self._records = records
        self._alive: dict[tuple[str, str, int], tuple[Machine, Process]] = {}
        self._started: set[str] = set()

    def began(self, machine: Machine, process: Process) -> None:
        """A process starts: nobody else may do the same work at this moment, and never did this task start before."""
        try:
            self._began(machine, process)
        except BrokenError as error:
            self._records.broken = self._records.broken or error
            raise

    def _began(self, machine: Machine, process: Process) -> None:
        order = process.order
        need(order.task not in self._started, f"task {order.task} was started twice")
        self._started.add(order.task)
        place = (order.run, order.role, order.index)
        other = self._alive.get(place)
        if other is not None and other[1].order.task in other[0].disk.processes:
            still = other[1].exit(other[0].clock.monotonic()) is None
            need(not still, f"{place} runs on {machine.name} while it still runs on {other[0].name}")
        self._alive[place] = (machine, process)
        self._gang(order.run, order.role)

    def _gang(self, run_id: str, role_name: str) -> None:
        run = self._records.runs[run_id]
        if not run.plan.role(role_name).gang:
            return
        gathered = {TaskState.READY, TaskState.RUNNING, TaskState.STOPPING}
        for task in self._records.tasks.values():
            member = task.run == run_id and task.run_attempt == run.attempt and run.plan.role(task.role).gang
            if member and not TASK_LIFE.is_final(task.state):
                need(task.state in gathered, f"a gang's task starts while {task.role}[{task.index}] is {task.state}")


def check_log(task: Task, machine: Machine, stored: bytes) -> None:
    """A task's end is seen: its log must be here, whole. What was lost with its machine cannot be."""
    if task.state is TaskState.LOST or task.id not in machine.disk.journal:
        return
    need(stored == machine.log_of(task.id), f"the end of {task.id} is seen before its log is whole")
