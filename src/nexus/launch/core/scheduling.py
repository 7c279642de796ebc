"""One look at the whole world, and what should change: silent nodes, lost leases, runs going on, tasks getting nodes.

`decide` returns groups of changes; each is applied in one transaction, in order. Two groups may change the same node
(each lease raises its epoch), so versions count on from group to group; when one fails by a conflict, those that
build on it fail too, and the next look decides again.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nexus.kernel.errors import NexusError
from nexus.kernel.events import Event
from nexus.kernel.ids import new_id
from nexus.kernel.records import Kind, Record
from nexus.launch.core.events import node_moved, run_moved, task_moved
from nexus.launch.core.exits import Place
from nexus.launch.core.lifecycle import Progress, advance
from nexus.launch.core.placement.fit import Room
from nexus.launch.core.placement.place import Fitting, in_words, place_in, rooms_of, take_all
from nexus.launch.core.policy import Policy
from nexus.launch.model import (
    NODES,
    RUN_LIFE,
    RUNS,
    TASK_LIFE,
    TASKS,
    Assignment,
    Cause,
    Node,
    NodeState,
    Placement,
    Run,
    RunState,
    Task,
    TaskState,
)

Rooms = Callable[[Sequence[Node], Iterable[Task]], list[Room]]
Change = tuple[Kind[Any], Record]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the decision looks at."""

    runs: Sequence[Run]  # those that are not over
    tasks: Sequence[Task]  # every task of those runs, and every live task
    nodes: Sequence[Node]
    silence: Mapping[str, float]  # node -> seconds since it was last heard
    unrenewed: Mapping[str, float]  # live task -> seconds since its lease was last renewed
    after: Mapping[str, RunState] = field(default_factory=dict)  # runs that others wait for
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
    unmet: tuple[Unmet, ...] = ()

    def records(self, kind: Kind[Any]) -> list[Any]:
        """Every changed record of one kind."""
        return [record for group in self.groups for of, record in group.changes if of is kind]


def decide(world: World, now: float, policy: Policy, rooms_from: Rooms = rooms_of) -> Decision:
    """Everything that should change now."""
    return _Look(world, now, policy, rooms_from).decide()


class _Look:
    def __init__(self, world: World, now: float, policy: Policy, rooms_from: Rooms) -> None:
        self.world, self.now, self.policy = world, now, policy
        self.nodes = {node.id: node for node in world.nodes}
        self.groups: list[Group] = []
        self.stuck: dict[str, str] = {}
        self.unmet: list[Unmet] = []
        self.lost = {task.id: lost for task in world.tasks if (lost := self._lost(task)) is not None}
        self.hopeless: set[str] = set()
        self.fitting: dict[str, Fitting] = {}
        self._rooms_from = rooms_from

    def decide(self) -> Decision:
        for node in self.world.nodes:
            self._watch(node)
        by_run: defaultdict[str, list[Task]] = defaultdict(list)
        for task in self.world.tasks:
            by_run[task.run].append(task)
        # What is lost now is free only in the next look: the change that says so may still fail by a conflict.
        live = [task for task in self.world.tasks if not TASK_LIFE.is_final(task.state)]
        self.rooms = self._rooms_from(list(self.nodes.values()), live)
        for run in sorted(self.world.runs, key=lambda run: (-run.plan.priority, run.created, run.id)):
            try:
                self._step(run, by_run.pop(run.id, []))
            except NexusError as error:
                self.stuck[run.id] = error.message
        self._orphans(by_run)
        return Decision(tuple(self.groups), self.stuck, tuple(self.unmet))

    def _watch(self, node: Node) -> None:
        silence = self.world.silence.get(node.id, 0.0)
        state = node.state
        if silence > self.policy.lost_s or node.over:
            state = NodeState.GONE
        elif silence > self.policy.unreachable_s and state is not NodeState.GONE:
            state = NodeState.UNREACHABLE
        if state is not node.state:
            moved = replace(node, state=state, seen=self.now - silence)
            self._add([(NODES, moved)], [node_moved(moved, self.now, silent_s=round(silence, 1))])

    def _lost(self, task: Task) -> Task | None:
        node = self.nodes.get(task.node)
        unrenewed = self.world.unrenewed.get(task.id, 0.0)
        over = node.over if node is not None else ""
        if TASK_LIFE.is_final(task.state) or (unrenewed <= self.policy.lost_s and not over):
            return None
        cause = Cause.SPOT if node is not None and node.spot else Cause.NODE_LOST
        detail = f"its machine is gone: {over}" if over else f"its lease was not renewed for {unrenewed:.0f} s"
        return replace(task, state=TaskState.LOST, cause=cause, detail=detail, ended=self.now, healthy=False)

    def _step(self, run: Run, stored: Sequence[Task]) -> None:
        tasks = [self.lost.get(task.id, task) for task in stored]
        progress = self._waits(run) or advance(run, tasks, self.now, self.policy)
        changed = {task.id: task for task in tasks if task.id in self.lost}
        changed |= {task.id: task for task in progress.tasks}
        after, new, nodes = self._fill(progress, tasks)
        events = [task_moved(task, self.now) for task in changed.values() if task.id in self.lost]
        events += [task_moved(task, self.now) for task in new]
        if (after.state, after.reason) != (run.state, run.reason):
            events.append(run_moved(after, self.now))
        # With new tasks the run is written in any case: two schedulers must not both go on from the same record.
        records: list[Change] = [(RUNS, after)] if after != run or new else []
        records += [(TASKS, task) for task in (*changed.values(), *new)]
        self._add([*records, *((NODES, node) for node in nodes)], events)

    def _orphans(self, by_run: Mapping[str, Sequence[Task]]) -> None:
        """Lost leases of tasks whose run is over."""
        for tasks in by_run.values():
            lost = [self.lost[task.id] for task in tasks if task.id in self.lost]
            self._add([(TASKS, task) for task in lost], [task_moved(task, self.now) for task in lost])

    def _waits(self, run: Run) -> Progress | None:
        """A queued run that other runs, or missing inputs, keep from starting."""
        if run.state is not RunState.QUEUED or run.wanted == "stop" or run.attempt:
            return None
        for run_id in run.plan.after:
            state = self.world.after.get(run_id)
            if state is None or (RUN_LIFE.is_final(state) and state is not RunState.SUCCEEDED):
                return self._fail(run, f"it waits for {run_id}, which {f'is {state}' if state else 'does not exist'}")
            if state is not RunState.SUCCEEDED:
                return Progress(replace(run, reason=f"waits for {run_id}, which is {state}", rejections=()))
        if run.id in self.world.broken:
            return self._fail(run, self.world.broken[run.id])
        return None

    def _fail(self, run: Run, reason: str) -> Progress:
        state = RUN_LIFE.move(run.state, RunState.FAILED)
        return Progress(replace(run, state=state, cause=Cause.SETUP, reason=reason, ended=self.now))

    def _fill(self, progress: Progress, tasks: Sequence[Task]) -> tuple[Run, list[Task], list[Node]]:
        """The run with as many of its needed places filled as there is room for: a gang all at once, others each."""
        run = progress.run
        if not progress.needed:
            return run, [], []
        tried = _Tries(run, tasks)
        new: list[Task] = []
        nodes: dict[str, Node] = {}
        refusal: Placement | None = None
        for wanted in self._batches(run, progress.needed, tasks):
            placement = self._place(run, wanted, tasks, new)
            if not placement.fits:
                refusal = refusal or placement
                spent = sum(one.price for one in (*tasks, *new) if not TASK_LIFE.is_final(one.state))
                self.unmet.append(Unmet(run, tuple(wanted), spent, placement.reason))
            for one in placement.assignments:
                node = nodes.get(one.node, self.nodes[one.node])
                nodes[one.node] = node = replace(node, epoch=node.epoch + 1)
                new.append(self._lease(run, one, node, tried.next(one.role, one.index)))
        return self._told(run, new, refusal, len(progress.needed)), new, list(nodes.values())

    def _batches(self, run: Run, needed: Sequence[Place], tasks: Sequence[Task]) -> list[list[Place]]:
        gang_roles = {role.name for role in run.plan.roles if role.gang}
        gang = [place for place in needed if place[0] in gang_roles]
        started = any(
            task.role in gang_roles and task.run_attempt == run.attempt and not TASK_LIFE.is_final(task.state)
            for task in tasks
        )
        rest = [[place] for place in needed if place not in gang]
        if started:  # one member is started again beside the others
            return [[place] for place in gang] + rest
        return ([gang] if gang else []) + rest

    def _place(self, run: Run, wanted: list[Place], tasks: Sequence[Task], new: Sequence[Task]) -> Placement:
        """As `place`; what had no room once has none for the rest of this look, since rooms only fill up."""
        key = f"{run.id}:{wanted[0][0]}" if len(wanted) == 1 else ""
        if key in self.hopeless:
            return Placement(reason="no node fits")
        spent = sum(task.price for task in (*tasks, *new) if not TASK_LIFE.is_final(task.state))
        placement = place_in(run.plan, wanted, self.rooms, spent=spent, memo=self.fitting)
        take_all(run.plan, placement, self.rooms)
        if key and not placement.fits:
            self.hopeless.add(key)
        return placement

    def _lease(self, run: Run, one: Assignment, node: Node, attempt: int) -> Task:
        role = run.plan.role(one.role)
        return Task(
            id=task_id(run.id, one.role, one.index, attempt),
            project=run.project,
            created=self.now,
            run=run.id,
            role=one.role,
            index=one.index,
            attempt=attempt,
            run_attempt=run.attempt,
            node=node.id,
            epoch=node.epoch,
            go=not role.gang,
            gpus=one.gpus,
            cpu=role.needs.cpu.least,
            memory_b=int(role.needs.memory_b.least),
            address=node.address,
            lease_until=self.now + self.policy.lease_s,
            price=one.price,
        )

    def _told(self, run: Run, new: Sequence[Task], refusal: Placement | None, needed: int) -> Run:
        """The run with why it waits, in words."""
        if new and run.state is RunState.QUEUED:
            run = replace(run, state=RUN_LIFE.move(run.state, RunState.STARTING))
        if refusal is None:
            return replace(run, reason="", rejections=())
        names = {node.id: node.name for node in self.nodes.values()}
        missing = needed - len(new)
        reason = self.world.coming.get(run.id) or refusal.reason
        waiting = reason if run.state is RunState.QUEUED else f"{missing} of its tasks wait: {reason}"
        return replace(run, reason=waiting, rejections=in_words(refusal.rejections, names))

    def _add(self, changes: Sequence[Change], events: Sequence[Event]) -> None:
        if not changes:
            return
        self.groups.append(Group(tuple(changes), tuple(events)))
        for kind, record in changes:
            if kind is NODES and isinstance(record, Node):
                self.nodes[record.id] = replace(record, version=record.version + 1)


class _Tries:
    """How often each place of a run was tried, over all its attempts."""

    def __init__(self, run: Run, tasks: Iterable[Task]) -> None:
        self._next: defaultdict[Place, int] = defaultdict(int)
        for task in tasks:
            place = (task.role, task.index)
            self._next[place] = max(self._next[place], task.attempt + 1)

    def next(self, role: str, index: int) -> int:
        return self._next[role, index]


def task_id(run: str, role: str, index: int, attempt: int) -> str:
    """The id follows from what the task is, so that nobody can store two tasks for one try of one place."""
    return new_id("task", hashlib.sha256(f"{run}/{role}/{index}/{attempt}".encode()).digest())
