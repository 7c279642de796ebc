"""All nodes with what is free on each: kept from one look to the next, and told of every change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from nexus.launch.core.placement.fit import Room
from nexus.launch.core.placement.need import Need, need_key
from nexus.launch.core.placement.place import Fitting, Want, place_in
from nexus.launch.core.policy import Policy
from nexus.launch.model import Node, Placement, RunPlan, Task

__all__ = ["Need", "Rooms", "need_key"]


class Rooms:
    """Who holds what where. Every change is told once: a node put or dropped, a task that holds or lets go.

    Telling the same again changes nothing. A task that holds on a node that is not there counts as soon as it is.
    """

    def __init__(self) -> None:
        self._rooms: dict[str, Room] = {}
        self._held: dict[str, dict[str, Task]] = {}  # node -> task id -> task
        self._where: dict[str, str] = {}  # task id -> node
        self._memo: dict[str, Fitting] = {}
        self._gains: list[tuple[int, str]] = []
        self._clock = 0

    @classmethod
    def of(cls, nodes: Iterable[Node], held: Iterable[Task] = ()) -> Rooms:
        """These nodes, less what live tasks hold."""
        rooms = cls()
        for node in nodes:
            rooms.put(node)
        for task in held:
            rooms.hold(task)
        return rooms

    # ------------------------------------------------------------------ what happens

    def put(self, node: Node) -> None:
        """A node that is new, or whose record changed (its state, its size, its price, ...)."""
        self._rooms[node.id] = Room.of(node, self._held.get(node.id, {}).values())
        self._memo.clear()
        self._gain(node.id)

    def drop(self, node_id: str) -> None:
        """A node that is no more."""
        if self._rooms.pop(node_id, None) is not None:
            self._memo.clear()

    def hold(self, task: Task) -> None:
        """A live task holds what its record says, on its node."""
        if self._where.get(task.id) == task.node and self._held[task.node].get(task.id) is not None:
            return
        self.let_go(task)
        self._where[task.id] = task.node
        self._held.setdefault(task.node, {})[task.id] = task
        self._refresh(task.node)

    def let_go(self, task: Task) -> None:
        """A task is over, or never came to be: what it held is free."""
        node_id = self._where.pop(task.id, None)
        if node_id is not None:
            del self._held[node_id][task.id]
            self._refresh(node_id)
            self._gain(node_id)

    def take(self, plan: RunPlan, placement: Placement) -> list[Task]:
        """Reserve what a placement holds, for as long as there are no records of its tasks.

        Gives the claims: `let_go` each of them, or `give_back` all.
        """
        claims = []
        for one in placement.assignments:
            needs = plan.role(one.role).needs
            self._clock += 1
            claims.append(
                Task(
                    id=f"claim_{self._clock}",
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
            )
            self.hold(claims[-1])
        return claims

    def give_back(self, claims: Iterable[Task]) -> None:
        """Undo `take`."""
        for claim in claims:
            self.let_go(claim)

    @contextmanager
    def as_if_ended(self, tasks: Iterable[Task]) -> Iterator[None]:
        """What these tasks hold is free within the block, and held again after it. Nothing counts as gained by it."""
        held = [self._held[self._where[task.id]][task.id] for task in tasks if task.id in self._where]
        gains = len(self._gains)
        for task in held:
            self.let_go(task)
        del self._gains[gains:]
        try:
            yield
        finally:
            for task in held:
                self.hold(task)

    # ------------------------------------------------------------------ questions

    @property
    def nodes(self) -> Mapping[str, Node]:
        """Every node, by id."""
        return {node_id: room.node for node_id, room in self._rooms.items()}

    def room(self, node_id: str) -> Room | None:
        """What is free on one node. To look at, not to change."""
        return self._rooms.get(node_id)

    def place(
        self,
        plan: RunPlan,
        wanted: Sequence[Want],
        *,
        spent: float = 0.0,
        policy: Policy = Policy(),  # noqa: B008  (frozen)
        project: str = "",
        explain: bool = False,
    ) -> Placement:
        """The cheapest place for all of `wanted` at once, or none. Holds nothing: see `hold` and `take`.

        `spent` is what the run's other tasks cost per hour, for its `max_price`; `project` keeps to that project's
        nodes. Rejections are listed when nothing fits, and always with `explain`.
        """
        rooms = sorted(self._rooms.values(), key=lambda room: (room.node.name, room.node.id))
        mine = [room for room in rooms if not project or room.node.project == project]
        return place_in(plan, wanted, mine, spent=spent, explain=explain, memo=self._memo if not project else None)

    def mark(self) -> int:
        """Now, for `gained`."""
        return self._clock

    def gained(self, key: Need, mark: int) -> bool:
        """Whether room that could take a task of class `key` was freed or added since `mark`, and is still there."""
        since = {node_id for at, node_id in self._gains if at > mark}
        rooms = [self._rooms[node_id] for node_id in since if node_id in self._rooms]
        return any(not key.project or room.node.project == key.project for room in rooms)

    def _refresh(self, node_id: str) -> None:
        room = self._rooms.get(node_id)
        if room is not None:
            fresh = Room.of(room.node, self._held.get(node_id, {}).values())
            room.cpu, room.memory_b, room.gpus, room.tasks = fresh.cpu, fresh.memory_b, fresh.gpus, fresh.tasks

    def _gain(self, node_id: str) -> None:
        self._clock += 1
        self._gains.append((self._clock, node_id))
