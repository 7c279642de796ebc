"""All nodes with what is free on each: kept from one look to the next, and told of every change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nexus.launch.core.placement.ask import Ask
from nexus.launch.core.placement.index import Index
from nexus.launch.core.placement.need import Need, need_key
from nexus.launch.core.placement.reasons import nowhere, rejections, too_dear
from nexus.launch.core.placement.room import Room, lowest
from nexus.launch.core.placement.search import Asked, Solution, Want
from nexus.launch.core.placement.solve import solve
from nexus.launch.core.placement.watch import Watch
from nexus.launch.core.policy import Policy
from nexus.launch.model import Assignment, Node, NodeState, Placement, Rejection, RunPlan, Task

if TYPE_CHECKING:
    from collections.abc import KeysView

__all__ = ["Free", "Need", "Rooms", "need_key"]

EXACTLY = 1e-9  # what a sum of prices may be above `max_price` by rounding
EVERYTHING = float("inf")
POLICY = Policy()
NO_NODE = "there is no node: join one with `nexus agent join`"


@dataclass(frozen=True, slots=True)
class Free:
    """What is free on one node."""

    node: Node
    cpu: float
    memory_b: int
    gpus: frozenset[int]
    tasks: int


class Rooms:
    """Who holds what where. Every change is told once: a node put or dropped, a task that holds or lets go.

    Telling the same again changes nothing. A task that holds on a node that is not there counts as soon as it is.
    A question costs about the same however many nodes there are.
    """

    def __init__(self) -> None:
        self._index = Index()
        self._watch = Watch(self._index)
        self._rooms: dict[str, Room] = {}
        self._held: dict[str, dict[str, Task]] = {}  # node -> task id -> task
        self._where: dict[str, str] = {}  # task id -> node
        self._gains: dict[str, int] = {}  # node -> when it last gained room; the newest last
        self._clock = 0
        self._counts: Counter[str] = Counter()  # nodes by the project that may use them; empty: all may

    @classmethod
    def of(cls, nodes: Iterable[Node], held: Iterable[Task] = ()) -> Rooms:
        """These nodes, less what live tasks hold."""
        rooms = cls()
        for task in held:
            rooms.hold(task)
        for node in nodes:
            rooms.put(node)
        return rooms

    # ------------------------------------------------------------------ what happens

    def put(self, node: Node, *, offer: str = "", start_s: float = 0.0) -> None:
        """A node that is new, or whose record changed (its state, its size, its price, ...).

        `offer`: it does not exist yet, and stands for one machine of that offer, which takes `start_s` to start.
        """
        self.drop(node.id)
        self._counts[node.users] += 1
        room = Room(node, self._held.get(node.id, {}).values(), offer=offer, start_s=start_s)
        self._rooms[node.id] = room
        if node.state is NodeState.ONLINE:
            self._index.add(room)
            self._gain(node.id)

    def drop(self, node_id: str) -> None:
        """A node that is no more."""
        room = self._rooms.pop(node_id, None)
        if room is not None:
            self._index.remove(room)
            self._counts[room.node.users] -= 1
            self._gains.pop(node_id, None)

    def hold(self, task: Task) -> None:
        """A live task holds what its record says, on its node."""
        node_id = self._where.get(task.id)
        if node_id is not None:
            old = self._held[node_id][task.id]
            if old is task or _holds(old) == _holds(task):
                return
            self.let_go(old)
        self._where[task.id] = task.node
        self._held.setdefault(task.node, {})[task.id] = task
        room = self._rooms.get(task.node)
        if room is not None:
            self._index.loosen(room)
            room.hold(task)

    def let_go(self, task: Task) -> None:
        """A task is over, or never came to be: what it held is free."""
        node_id = self._release(task.id)
        if node_id is not None and node_id in self._rooms:
            self._gain(node_id)

    def take(self, plan: RunPlan, placement: Placement) -> list[Task]:
        """Reserve what a placement holds, while there are no records of its tasks.

        Gives a stand-in for each task: `let_go` them, or `give_back` all.
        """
        claims = []
        for one in placement.assignments:
            needs = plan.role(one.role).needs
            self._clock += 1
            claim = Task(
                id=f"claim/{self._clock}",
                project="",
                created=0.0,
                run="",
                role=one.role,
                index=one.index,
                attempt=0,
                node=one.node,
                epoch=0,
                gpus=one.gpus,
                cpu=needs.cpu.least,
                memory_b=int(needs.memory_b.least),
            )
            self.hold(claim)
            claims.append(claim)
        return claims

    def give_back(self, claims: Iterable[Task]) -> None:
        """Undo `take`."""
        for claim in claims:
            self.let_go(claim)

    @contextmanager
    def as_if_ended(self, tasks: Iterable[Task]) -> Iterator[None]:
        """What these tasks hold is free within the block, and held again after it. Nothing counts as gained by it."""
        ended = [self._held[self._where[task.id]][task.id] for task in tasks if task.id in self._where]
        for task in ended:
            self._release(task.id)
        try:
            yield
        finally:
            for task in ended:
                self.hold(task)

    # ------------------------------------------------------------------ questions

    @property
    def nodes(self) -> KeysView[str]:
        """The ids of all nodes."""
        return self._rooms.keys()

    def room(self, node_id: str) -> Free | None:
        """What is free on one node; None when there is no such node."""
        room = self._rooms.get(node_id)
        if room is None:
            return None
        free = frozenset(lowest(room.gpus, len(room.node.capacity.gpus)))
        return Free(room.node, room.cpu_free, room.memory_b, free, room.tasks)

    def place(
        self,
        plan: RunPlan,
        wanted: Sequence[Want],
        *,
        spent: float = 0.0,
        policy: Policy = POLICY,
        project: str = "",
        explain: bool = False,
    ) -> Placement:
        """The cheapest place for all of `wanted` at once, or none. Holds nothing: see `hold` and `take`.

        `spent` is what the run's other tasks cost per hour, for its `max_price`; `project` keeps to that project's
        nodes. With `explain`, rejections say which nodes cannot, and why: that looks at all of them.
        """
        limit = EVERYTHING if plan.max_price is None else plan.max_price - spent + EXACTLY
        asked: list[Asked] = []
        if len(wanted) == 1:
            name, index = wanted[0]
            role = plan.role(name)
            ask = Ask(need_key(role, project), policy, plan.placement)
            found = self._index.first(ask, limit)
            if found is not None and not explain:
                _, room, price = found
                gpus = self._pick(ask, room) if ask.gpus else ()
                return Placement((Assignment(name, index, room.node.id, gpus, price, room.offer),))
            asked = [(role, ask, [index])]
            if found is None and limit == EVERYTHING:  # then nothing finds one
                return Placement((), self._rejections(asked, explain=explain), self._nowhere(asked, fast=False))
        else:
            asked = _asked(plan, wanted, policy, project)
        return self._place(plan, wanted, asked, limit, spent, explain=explain)

    def _place(
        self, plan: RunPlan, wanted: Sequence[Want], asked: list[Asked], limit: float, spent: float, *, explain: bool
    ) -> Placement:
        fast = plan.network == "fast" and len(wanted) > 1
        best = solve(self._index, asked, limit, fast=fast)
        if limit != EVERYTHING and (best is None or best.price > limit):
            best = self._least_paid(plan, wanted, asked, fast=fast)
            if best is not None and best.price > limit:
                return Placement((), self._rejections(asked, explain=explain), too_dear(best.price, spent, plan))
        if best is None:
            return Placement((), self._rejections(asked, explain=explain), self._nowhere(asked, fast=fast))
        assignments = best.assignments
        if len(asked) > 1:  # hardest role first; one role's tasks are in order
            at = {want: number for number, want in enumerate(wanted)}
            assignments = sorted(assignments, key=lambda one: at[one.role, one.index])
        return Placement(tuple(assignments), self._rejections(asked, explain=explain))

    def _least_paid(self, plan: RunPlan, wanted: Sequence[Want], asked: list[Asked], *, fast: bool) -> Solution | None:
        """Ranked by what is paid per hour alone: what is expected to be lost with spot machines is forgotten."""
        paid = [(role, Ask(ask.need, None, plan.placement), indices) for role, ask, indices in asked]
        return solve(self._index, paid, EVERYTHING, fast=fast)

    def _nowhere(self, asked: Sequence[Asked], *, fast: bool) -> str:
        project = asked[0][1].need.project if asked else ""
        nodes = self._counts[project] + self._counts[""] if project else len(self._rooms)
        return nowhere(self._index, asked, fast=fast) if nodes else NO_NODE

    def _rejections(self, asked: Sequence[Asked], *, explain: bool) -> tuple[Rejection, ...]:
        return tuple(rejections(asked, self._rooms.values(), self._index)) if explain else ()

    def _pick(self, ask: Ask, room: Room) -> tuple[int, ...]:
        if room.shelf is not None and room.shelf.kind.mixed:
            row = self._index.row(ask.need, room)
            return lowest(room.gpus & row.fitting, ask.gpus) if row else ()
        return lowest(room.gpus, ask.gpus)

    def suiting(self, key: Need) -> list[str]:
        """The nodes that could take a task of class `key`, were they free."""
        return self._index.suiting(key)

    def suited(self, key: Need) -> int:
        """How many nodes could take a task of class `key`, were they free."""
        return len(self._index.suiting(key))

    def mark(self) -> int:
        """Now, for `served`."""
        return self._clock

    def watch(self, key: Need) -> None:
        """Tasks of class `key` wait for room: `served` and `serves` speak of them from now on."""
        self._watch.add(key)

    def unwatch(self, key: Need) -> None:
        """None does any more."""
        self._watch.discard(key)

    def served(self, mark: int) -> dict[Need, list[str]]:
        """The watched classes of which one task has room now where some was freed or added since `mark`, and where."""
        found: dict[Need, list[str]] = {}
        for node_id in reversed(self._gains):
            if self._gains[node_id] <= mark:
                break
            for key in self._watch.served(self._rooms[node_id]):
                found.setdefault(key, []).append(node_id)
        return found

    def serves(self, node_ids: Iterable[str]) -> set[Need]:
        """The watched classes of which one task has room now on one of these nodes."""
        rooms = (self._rooms[node_id] for node_id in node_ids if node_id in self._rooms)
        return {key for room in rooms for key in self._watch.served(room)}

    def fits(self, key: Need, node_id: str) -> bool:
        """Whether one task of the watched class `key` has room on this node now."""
        room = self._rooms.get(node_id)
        return room is not None and self._watch.fits(key, room)

    # ------------------------------------------------------------------ inside

    def _release(self, task_id: str) -> str | None:
        """The node where the task held something; nothing counts as gained."""
        node_id = self._where.pop(task_id, None)
        if node_id is None:
            return None
        held = self._held[node_id]
        del held[task_id]
        if not held:
            del self._held[node_id]
        room = self._rooms.get(node_id)
        if room is not None:
            self._index.loosen(room)
            room.let_go(task_id)
        return node_id

    def _gain(self, node_id: str) -> None:
        self._clock += 1
        self._gains.pop(node_id, None)
        self._gains[node_id] = self._clock


def _asked(plan: RunPlan, wanted: Sequence[Want], policy: Policy, project: str) -> list[Asked]:
    by_role: dict[str, list[int]] = {}
    for name, index in wanted:
        by_role.setdefault(name, []).append(index)
    found: list[Asked] = []
    for name, indices in by_role.items():
        role = plan.role(name)
        found.append((role, Ask(need_key(role, project), policy, plan.placement), indices))
    return found


def _holds(task: Task) -> tuple[str, float, int, tuple[int, ...]]:
    return task.node, task.cpu, task.memory_b, task.gpus
