"""The search: the cheapest place for a group of tasks, all of them or none.

What one task costs on one node does not depend on the others, so this is an assignment problem with room on every
node. Greedy takes roles hardest first, and for each task the first room in order; for tasks that are all alike that is
the cheapest answer there is. Where roles compete, branch and bound looks on from there, for at most `STEPS` steps:
exact for the sizes that people wait for, never worse than greedy beyond.

A search takes from rooms in place and restores them before it answers: the index, which it does not tell, stays right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from typing import Any

from nexus.launch.core.placement.ask import Ask
from nexus.launch.core.placement.index import Found, Index, copies, fits
from nexus.launch.core.placement.matching import Row
from nexus.launch.core.placement.room import Room, State, lowest
from nexus.launch.core.placement.shelf import Kind
from nexus.launch.model import Assignment, RolePlan

STEPS = 2_000
DEEP = 64  # tasks of several roles that are placed at once; beyond, greedy stands
ROUNDING = 1e-12

Want = tuple[str, int]  # role, index
Asked = tuple[RolePlan, Ask, list[int]]  # the indices of a role's tasks


class Solution:
    """Places for all tasks, and by what they are compared."""

    __slots__ = ("assignments", "price", "ranked")

    def __init__(self, assignments: Sequence[Assignment], ranked: float) -> None:
        self.assignments = assignments
        self.ranked = ranked
        self.price = sum(one.price for one in assignments)


class Search:
    """`within` keeps to these rooms, say of one network; else the whole index is searched."""

    def __init__(
        self, index: Index, roles: Sequence[Asked], limit: float, within: Iterable[Room] | None = None
    ) -> None:
        self.index, self.roles, self.limit = index, roles, limit
        self.within = None if within is None else list(within)
        self.rows: list[dict[Kind, Row]] = [{row.kind: row for row in index.rows(ask.need)} for _, ask, _ in roles]
        self.touched: dict[Room, State] = {}
        self.best: Solution | None = None
        self.steps = 0

    def run(self) -> Solution | None:
        self._greedy()
        if self.best is not None and len(self.roles) > 1:  # one role: greedy is already the cheapest
            tasks = [at for at, (_, _, indices) in enumerate(self.roles) for _ in indices]
            if len(tasks) <= DEEP:
                self._descend(tasks, self._bounds(tasks), [], 0.0)
        return self.best

    # ------------------------------------------------------------------ greedy

    def _greedy(self) -> None:
        chosen: list[Assignment] = []
        ranked = 0.0
        for at in range(len(self.roles)):
            cost = self._fill(at, chosen)
            if cost is None:
                break
            ranked += cost
        else:
            self.best = Solution(chosen, ranked)
        self._restore()

    def _fill(self, at: int, chosen: list[Assignment]) -> float | None:
        """Every task of one role into the first room in order, one after the other; what they cost as ranked."""
        _, ask, indices = self.roles[at]
        ready: list[Any] = []  # rooms that were taken from, and have room for more: their turn changes with each task
        for room in self.touched:
            self._offer(ready, at, room)
        source = self._candidates(at)
        ranked = 0.0
        upcoming = next(source, None)
        done = 0
        while done < len(indices):
            while upcoming is not None and upcoming[1] in self.touched:
                upcoming = next(source, None)
            if ready and (upcoming is None or ready[0][0] < upcoming[0]):
                key, room, price = heappop(ready)
            elif upcoming is not None:
                key, room, price = upcoming
                upcoming = next(source, None)
            else:
                return None
            count = 1
            if ask.style == "pack":  # a room that was taken from stays first in order
                count = copies(room, self.rows[at][room.kind], ask, len(indices) - done)
            ranked += key[0] * count
            chosen += self._take(at, room, indices[done : done + count], price)
            done += count
            if done < len(indices):
                self._offer(ready, at, room, price)
        return ranked

    def _offer(self, ready: list[Any], at: int, room: Room, price: float | None = None) -> None:
        ask, row = self.roles[at][1], self.rows[at].get(room.kind)
        if row is not None and room.flag & row.bits and fits(room, row, ask):
            real = ask.price(room.node) if price is None else price
            if real <= self.limit:
                heappush(ready, (ask.key(room, real, room.kind), room, real))

    def _candidates(self, at: int) -> Iterator[Found]:
        ask = self.roles[at][1]
        if self.within is None:
            return self.index.walk(ask, self.limit)
        found: list[Any] = []
        for room in self.within:
            self._offer(found, at, room)
        return iter(sorted(found, key=lambda one: one[0]))

    def _take(self, at: int, room: Room, indices: Sequence[int], price: float) -> list[Assignment]:
        """Tasks of one role into a room that has enough free for them."""
        role, ask, _ = self.roles[at]
        if room not in self.touched:
            self.touched[room] = room.state
        room.cpu -= ask.cpu * len(indices)
        room.memory_b -= ask.memory_b * len(indices)
        room.tasks += len(indices)
        name, node, offer, each = role.name, room.node.id, room.offer, ask.gpus
        if not each:
            return [Assignment(name, index, node, (), price, offer) for index in indices]
        gpus = lowest(room.gpus & (self.rows[at][room.kind].fitting or -1), each * len(indices))
        for gpu in gpus:
            room.gpus ^= 1 << gpu
        starts = range(0, len(gpus), each)
        return [
            Assignment(name, index, node, gpus[start : start + each], price, offer)
            for index, start in zip(indices, starts, strict=True)
        ]

    def _restore(self) -> None:
        for room, state in self.touched.items():
            room.restore(state)
        self.touched.clear()

    # ------------------------------------------------------------------ branch and bound

    def _bounds(self, tasks: Sequence[int]) -> list[float]:
        """What the tasks from each position on cost at least."""
        least = []
        for at in range(len(self.roles)):
            first = next(self._candidates(at), None)
            least.append(first[0][0] if first else float("inf"))
        bounds = [0.0]
        for at in reversed(tasks):
            bounds.append(bounds[-1] + least[at])
        return bounds[::-1]

    def _descend(
        self, tasks: Sequence[int], bounds: list[float], chosen: list[tuple[int, Room, float, float]], ranked: float
    ) -> None:
        """Depth first. Tasks of one role are alike: each goes to a room no cheaper than the one before it."""
        depth = len(chosen)
        if not self._better(ranked + bounds[depth]):
            return
        if depth == len(tasks):
            self.best = self._solution(chosen, ranked)
            return
        at = tasks[depth]
        floor = chosen[-1][2] if chosen and chosen[-1][0] == at else float("-inf")
        for key, room, price in self._candidates(at):
            if key[0] < floor:
                continue
            if not self._better(ranked + key[0] + bounds[depth + 1]):
                return
            self.steps += 1
            before = room.state
            self._take(at, room, [0], price)
            chosen.append((at, room, key[0], price))
            self._descend(tasks, bounds, chosen, ranked + key[0])
            chosen.pop()
            room.restore(before)

    def _better(self, bound: float) -> bool:
        """Whether it is worth to look on where everything costs at least so much."""
        return self.best is not None and bound < self.best.ranked - ROUNDING and self.steps < STEPS

    def _solution(self, chosen: Sequence[tuple[int, Room, float, float]], ranked: float) -> Solution:
        """Take again what was chosen, from the rooms as they were, for the accelerators' numbers."""
        before = {room: room.state for _, room, _, _ in chosen}
        indices = [iter(indices) for _, _, indices in self.roles]
        for room in before:
            room.restore(self.touched[room])
        made = [one for at, room, _, price in chosen for one in self._take(at, room, [next(indices[at])], price)]
        for room, state in before.items():
            room.restore(state)
        return Solution(made, ranked)
