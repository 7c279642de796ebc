"""How everything stands, kept from one look to the next and told of every committed change.

It holds nothing that the records do not say: it can be built anew at any time, and then is the same. Versions show when
a change was missed (another server wrote, say): then it is in `doubt`, and its owner builds it anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter

from nexus.kernel.records import Change, Drop, Record
from nexus.launch.core.exits import Place
from nexus.launch.core.lifecycle import ended_cost, held_cost
from nexus.launch.core.placement.rooms import Need, Rooms, need_key
from nexus.launch.core.policy import Policy
from nexus.launch.core.queue.lines import Queue
from nexus.launch.core.queue.reservations import Reservation
from nexus.launch.core.queue.shares import Held, work_of
from nexus.launch.core.timers import Timers
from nexus.launch.model import (
    RUN_LIFE,
    TASK_LIFE,
    Node,
    NodeState,
    Quota,
    RolePlan,
    Run,
    RunState,
    Task,
    Usage,
)

KEPT = 64  # tries of one place that are kept; more change no pause
Try = tuple[str, int, int]  # role, index, attempt


@dataclass(slots=True)
class Book:
    """The tasks of one run: the live ones and those of its present attempt; of all others only what they add up to."""

    tasks: dict[Try, Task] = field(default_factory=dict)
    past_cost: float = 0.0
    past_work: float = 0.0
    tries: dict[Place, int] = field(default_factory=dict)  # how often each place was tried, over all attempts

    def put(self, task: Task) -> None:
        """A task as it is now."""
        place = (task.role, task.index)
        self.tasks[task.role, task.index, task.attempt] = task
        self.tries[place] = max(self.tries.get(place, 0), task.attempt + 1)
        old = self.tasks.get((task.role, task.index, task.attempt - KEPT))
        if old is not None and TASK_LIFE.is_final(old.state):
            self._close(old)

    def turn(self, attempt: int) -> None:
        """The run's present attempt is this one: those before are history."""
        for task in list(self.tasks.values()):
            if task.run_attempt < attempt and TASK_LIFE.is_final(task.state):
                self._close(task)

    def live(self) -> list[Task]:
        """Those that are not over."""
        return [task for task in self.tasks.values() if not TASK_LIFE.is_final(task.state)]

    def cost(self, tasks: Sequence[Task]) -> float:
        """What all ended tasks cost, when those kept are `tasks`."""
        return self.past_cost + ended_cost(tasks)

    def work(self, tasks: Iterable[Task]) -> float:
        """What all ended tasks did (see `work_of`), when those kept are `tasks`."""
        return self.past_work + work_of(tasks)

    def _close(self, task: Task) -> None:
        del self.tasks[task.role, task.index, task.attempt]
        self.past_cost += held_cost(task, 0.0)
        self.past_work += work_of([task])


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a standing is built of."""

    runs: Sequence[Run]  # those that are not over
    tasks: Sequence[Task]  # every task of those runs, and every live task
    nodes: Sequence[Node]
    quotas: Sequence[Quota] = ()
    usages: Sequence[Usage] = ()
    ended: Mapping[str, RunState] = field(default_factory=dict)  # runs that are over and that others wait for


class Standing:
    """See the module. What is decided but not committed yet is held tentatively: `hold`, and `let_go` if it fails."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.books: dict[str, Book] = {}
        self.tasks: dict[str, Task] = {}  # live ones
        self.nodes: dict[str, Node] = {}
        self.quotas: dict[str, Quota] = {}  # by project
        self.usages: dict[str, Usage] = {}  # by project
        self.rooms = Rooms()
        self.held = Held()
        self.queue = Queue(self.rooms)
        self.woken: dict[Need, dict[str, None]] = {}  # what blocked lines need, and nodes with room for it
        self.explained: dict[tuple[str, str], tuple[float, tuple[str, ...]]] = {}  # project, shape: when, what
        self.reservations: dict[str, Reservation] = {}  # by run
        self.on_node: dict[str, dict[str, Task]] = {}  # live tasks by node
        self.leaving: dict[str, None] = {}  # live tasks that were told to stop
        self._fitting: dict[Need, list[str]] = {}
        self.preemptible: dict[str, None] = {}  # runs that hold something and may be stopped for others
        self.ended: dict[str, RunState] = {}
        self.followers: dict[str, dict[str, None]] = {}  # run -> runs that wait for it
        self.touched_runs: dict[str, None] = {}  # to be looked at: sets that keep their order
        self.touched_nodes: dict[str, None] = {}
        self.touched_tasks: dict[str, None] = {}  # leases whose timers are not set yet
        self.walk_due = False  # somebody in the queue may have a turn
        self.nodes_changed = False  # since the last walk
        self.walked = 0  # the mark of the rooms at the last walk: what was freed since may be had
        self.run_timers: Timers[str] = Timers()  # of the wall clock
        self.lease_timers: Timers[str] = Timers()  # of the monotonic clock, by task
        self.node_timers: Timers[str] = Timers()  # of the monotonic clock
        self.doubt = ""  # why it should be built anew

    @classmethod
    def of(cls, snapshot: Snapshot) -> Standing:
        """Built anew; everything is to be looked at."""
        standing = cls()
        standing.ended = dict(snapshot.ended)
        for node in snapshot.nodes:
            standing._node(node)
        for quota in snapshot.quotas:
            standing.quotas[quota.project] = quota
        for usage in snapshot.usages:
            standing.usages[usage.project] = usage
        for run in snapshot.runs:
            standing._run(run)
        for task in sorted(snapshot.tasks, key=lambda task: (task.created, task.id)):
            standing._task(task)
        for run in snapshot.runs:
            standing.books[run.id].turn(run.attempt)
        return standing

    # ------------------------------------------------------------------ what is committed

    def learn(self, changes: Iterable[Change]) -> None:
        """What one transaction stored. What is older than what is known changes nothing."""
        for change in changes:
            dropped = isinstance(change, Drop)
            record = change.record if isinstance(change, Drop) else change[1]
            if isinstance(record, Node) and dropped:
                self._drop_node(record.id)
            elif not dropped:
                self._learn(record)

    def _learn(self, record: Record) -> None:
        known = self._known(record)
        if known is not None and record.version <= known:
            return
        if record.version != (known or 0) + 1 and self._should_be_known(record):
            self.doubt = self.doubt or f"{type(record).__name__.lower()} {record.id} was changed unheard"
        match record:
            case Run():
                self._run(record)
            case Task():
                self._task(record)
            case Node():
                self._node(record)
            case Quota():
                self.quotas[record.project] = record
                self.walk_due = True
            case Usage():
                self.usages[record.project] = record

    def _known(self, record: Record) -> int | None:
        """The version that is known of it."""
        match record:
            case Run():
                known: Record | None = self.runs.get(record.id)
            case Task():
                known = self.tasks.get(record.id)
            case Node():
                known = self.nodes.get(record.id)
            case Quota():
                known = self.quotas.get(record.project)
            case Usage():
                known = self.usages.get(record.project)
            case _:
                return None
        return known.version if known is not None else None

    def _should_be_known(self, record: Record) -> bool:
        """What is over may be unknown, and changed by nobody any more."""
        if isinstance(record, Run):
            return record.id in self.runs or not RUN_LIFE.is_final(record.state)
        if isinstance(record, Task):
            return record.id in self.tasks or not TASK_LIFE.is_final(record.state)
        return isinstance(record, Node | Quota | Usage)

    def _run(self, run: Run) -> None:
        old = self.runs.get(run.id)
        if RUN_LIFE.is_final(run.state):
            self._end(run)
            return
        self.runs[run.id] = run
        book = self.books.setdefault(run.id, Book())
        if old is None or old.attempt != run.attempt:
            book.turn(run.attempt)
        if old is None:
            for other in run.plan.after:
                self.followers.setdefault(other, {})[run.id] = None
        self.touched_runs[run.id] = None

    def _end(self, run: Run) -> None:
        old = self.runs.pop(run.id, None)
        self.books.pop(run.id, None)
        self.queue.drop(run.id)
        self.preemptible.pop(run.id, None)
        self.touched_runs.pop(run.id, None)
        self.run_timers.set(run.id, None)
        self.cancel_reservation(run.id)
        for other in (old or run).plan.after:
            waiting = self.followers.get(other, {})
            waiting.pop(run.id, None)
            if not waiting:
                self.followers.pop(other, None)
                self.ended.pop(other, None)
        if run.id in self.followers:
            self.ended[run.id] = run.state
            self.touched_runs |= {follower: None for follower in self.followers[run.id] if follower in self.runs}

    def _task(self, task: Task) -> None:
        run = self.runs.get(task.run)
        if run is not None:
            self.books[run.id].put(task)
            self.touched_runs[run.id] = None
        if TASK_LIFE.is_final(task.state):
            self.tasks.pop(task.id, None)
            self.leaving.pop(task.id, None)
            self.on_node.get(task.node, {}).pop(task.id, None)
            self.touched_tasks.pop(task.id, None)
            self.lease_timers.set(task.id, None)
            self.let_go(task)
        else:
            if task.id not in self.tasks:
                self.touched_tasks[task.id] = None
            self.tasks[task.id] = task
            self.on_node.setdefault(task.node, {})[task.id] = task
            if task.wanted == "stop":
                self.leaving[task.id] = None
            self.hold(task, run.user if run is not None else "")
        if run is not None and run.plan.preemptible:
            if self.books[run.id].live():
                self.preemptible[run.id] = None
            else:
                self.preemptible.pop(run.id, None)

    def _node(self, node: Node) -> None:
        old = self.nodes.get(node.id)
        self.nodes[node.id] = node
        if old is None or _placed_by(old) != _placed_by(node):
            self.rooms.put(node)
            self._fitting.clear()
            self.nodes_changed = True
            self.held.put_node(node.id, node.users, node.capacity if node.state is not NodeState.GONE else None)
            self.touch_reservations_on(node.id)
        if old is None or (old.state, old.over) != (node.state, node.over):
            self.touched_nodes[node.id] = None
            self.touched_runs |= {task.run: None for task in self.tasks_on(node.id) if node.over}

    def _drop_node(self, node_id: str) -> None:
        if self.nodes.pop(node_id, None) is not None:
            self.rooms.drop(node_id)
            self._fitting.clear()
            self.nodes_changed = True
            self.held.put_node(node_id, "", None)
            self.touched_nodes.pop(node_id, None)
            self.node_timers.set(node_id, None)
            self.touch_reservations_on(node_id)

    # ------------------------------------------------------------------ what is decided

    def hold(self, task: Task, user: str) -> None:
        """The task holds its room; again is the same."""
        self.held.add(task, user)
        self.rooms.hold(task)

    def let_go(self, task: Task) -> None:
        """It does not (any more)."""
        self.held.remove(task.id)
        self.rooms.let_go(task)
        self.touch_reservations_on(task.node)

    def reserve(self, reservation: Reservation) -> None:
        """Keep room for a run. What is kept for it already is kept no more."""
        self.cancel_reservation(reservation.run)
        self.reservations[reservation.run] = reservation
        reservation.refresh(self.rooms)

    def cancel_reservation(self, run_id: str) -> None:
        """Keep no room for the run."""
        reservation = self.reservations.pop(run_id, None)
        if reservation is not None:
            reservation.withdraw(self.rooms)

    def touch_reservations_on(self, node_id: str) -> None:
        """What is kept on this node may be more now, or nothing."""
        for reservation in self.reservations.values():
            if node_id in reservation.nodes:
                reservation.stale = True

    def undo(self, changes: Iterable[tuple[object, Record]]) -> None:
        """These were not committed: what was held for them is free, and who is concerned is looked at again."""
        for _, record in changes:
            if isinstance(record, Task) and record.version == 0 and record.id not in self.tasks:
                self.let_go(record)
            if isinstance(record, Run) and record.id in self.runs:
                self.touched_runs[record.id] = None
            elif isinstance(record, Task) and record.id in self.tasks:
                self.touched_tasks[record.id] = None
            elif isinstance(record, Node) and record.id in self.nodes:
                self.touched_nodes[record.id] = None
            known = self._known(record)
            if known is not None and known == record.version:
                self.doubt = self.doubt or f"{type(record).__name__.lower()} {record.id} conflicts, and nobody said why"

    # ------------------------------------------------------------------ questions

    def tasks_on(self, node_id: str) -> list[Task]:
        """The live tasks of a node."""
        return list(self.on_node.get(node_id, {}).values())

    def fitting(self, role: RolePlan, project: str) -> list[str]:
        """The project's nodes that could take a task of the role, were they empty."""
        key = need_key(role, project)
        if key not in self._fitting:
            self._fitting[key] = self.rooms.suiting(key)
        return self._fitting[key]

    def past(self, project: str, now: float, policy: Policy) -> float:
        """What a project held, as much of its share as counts beside what it holds."""
        return policy.history * self.held.history(self.usages.get(project), now, policy.memory_s)

    def weight(self, project: str) -> float:
        """How much of everything the project should get, next to the others."""
        quota = self.quotas.get(project)
        return quota.weight if quota is not None else 1.0

    def active_projects(self) -> list[str]:
        """Those that hold something, or wait for it."""
        return sorted({*self.held.projects, *self.queue.projects})

    def differences(self, other: Standing) -> list[str]:
        """What this one takes for otherwise than `other`, built anew from the records."""
        pairs: tuple[tuple[str, object, object], ...] = (
            ("runs", _versions(self.runs), _versions(other.runs)),
            ("tasks", _versions(self.tasks), _versions(other.tasks)),
            ("nodes", _versions(self.nodes), _versions(other.nodes)),
            ("quotas", self.quotas, other.quotas),
            ("usages", self.usages, other.usages),
            ("held", sorted(self.held.tasks), sorted(other.held.tasks)),
            ("preemptible", sorted(self.preemptible), sorted(other.preemptible)),
            ("tallies", self.held.rounded(), other.held.rounded()),
            ("books", _rounded(self.books), _rounded(other.books)),
        )
        return [f"{name}: {mine} instead of {theirs}" for name, mine, theirs in pairs if mine != theirs]

    def look_again(self, run_id: str, at: float) -> None:
        """Look at the run at this moment too."""
        there = self.run_timers.at(run_id)
        self.run_timers.set(run_id, at if there is None else min(at, there))


_UNSEEN = {"version", "epoch", "seen", "boot", "earlier_boots", "agent_version", "drain"}
_placed_by = attrgetter(*(one.name for one in fields(Node) if one.name not in _UNSEEN))  # the node as placement sees it


def _versions(records: Mapping[str, Record]) -> dict[str, int]:
    return {record_id: records[record_id].version for record_id in sorted(records)}


def _rounded(books: Mapping[str, Book]) -> dict[str, object]:
    return {
        run: (sorted(book.tasks), sorted(book.tries.items()), round(book.cost(list(book.tasks.values())), 6))
        for run, book in sorted(books.items())
    }
