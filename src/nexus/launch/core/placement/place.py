"""The search: the cheapest place for a group of tasks, all of them or none.

What one task costs on one node does not depend on the others, so this is an assignment problem with room on every
node. Greedy takes tasks hardest first, and for each the cheapest node with room; for tasks that are all alike that is
the cheapest answer there is. Where roles compete, branch and bound looks on from there, for at most `STEPS` steps:
exact for the sizes that people wait for, never worse than greedy beyond.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from nexus.launch.core.placement.fit import Room, misfit, pick_gpus, price_of, shortage
from nexus.launch.model import Assignment, Node, Placement, Rejection, RolePlan, RunPlan, Task

STEPS = 20_000
DEEP = 64  # tasks of several roles that are placed at once; beyond, greedy stands
Want = tuple[str, int]  # role, index
Fitting = list[tuple[float, Room]]  # the nodes that could take a role, were they free: cheapest first


def place(
    plan: RunPlan,
    wanted: Sequence[Want],
    nodes: Sequence[Node],
    held: Iterable[Task],
    *,
    spent: float = 0.0,
    explain: bool = False,
) -> Placement:
    """Places for all of `wanted` at once, or none.

    `held` are the live tasks of all runs; `spent` is what the run's other tasks cost per hour, for its `max_price`.
    Rejections are listed when nothing fits, and always with `explain`.
    """
    return place_in(plan, wanted, rooms_of(nodes, held), spent=spent, explain=explain)


def place_in(
    plan: RunPlan,
    wanted: Sequence[Want],
    rooms: Sequence[Room],
    *,
    spent: float = 0.0,
    explain: bool = False,
    memo: dict[str, Fitting] | None = None,
) -> Placement:
    """`place`, for a caller that keeps the rooms between several runs (see `take_all`).

    `memo` goes with the rooms: tasks that need the same are not compared with every node anew.
    """
    roles = {role.name: role for role in plan.roles}
    best = _cheapest(plan, [(roles[name], index) for name, index in wanted], rooms, {} if memo is None else memo)
    needed = [roles[name] for name in dict.fromkeys(name for name, _ in wanted)]
    if best is None:
        return _nowhere(needed, len(wanted), rooms, fast=_is_fast(plan, wanted))
    total = sum(one.price for one in best)
    if plan.max_price is not None and total + spent > plan.max_price + 1e-9:
        rest = f", beside {spent:.2f}/h that it holds already" if spent else ""
        reason = f"the cheapest place costs {total:.2f}/h{rest}; max_price is {plan.max_price:.2f}/h"
        return Placement((), tuple(_rejections(needed, rooms)), reason)
    return Placement(tuple(best), tuple(_rejections(needed, rooms)) if explain else ())


def take_all(plan: RunPlan, placement: Placement, rooms: Sequence[Room]) -> None:
    """Reserve what a placement holds, so that the next one sees it."""
    by_node = {room.node.id: room for room in rooms}
    for one in placement.assignments:
        by_node[one.node].take(plan.role(one.role).needs, one.gpus)


def rooms_of(nodes: Sequence[Node], held: Iterable[Task]) -> list[Room]:
    """What is free on each node, in the order of their names."""
    by_node: defaultdict[str, list[Task]] = defaultdict(list)
    for task in held:
        by_node[task.node].append(task)
    return [Room.of(node, by_node[node.id]) for node in sorted(nodes, key=lambda node: (node.name, node.id))]


def _cheapest(
    plan: RunPlan, tasks: Sequence[tuple[RolePlan, int]], rooms: Sequence[Room], memo: dict[str, Fitting]
) -> list[Assignment] | None:
    if not _is_fast(plan, [(role.name, index) for role, index in tasks]):
        return _Search(tasks, rooms, memo).run()
    best: list[Assignment] | None = None
    for group in _groups(rooms):
        found = _Search(tasks, group, {}).run()
        if found is not None and (best is None or _total(found) < _total(best) - 1e-12):
            best = found
    return best


def _is_fast(plan: RunPlan, wanted: Sequence[Want]) -> bool:
    return plan.network == "fast" and len(wanted) > 1


def _groups(rooms: Sequence[Room]) -> list[list[Room]]:
    """Nodes that share a fast network; a node that names none is fast only with itself."""
    groups: defaultdict[tuple[str, str], list[Room]] = defaultdict(list)
    for room in rooms:
        groups[("", room.node.network) if room.node.network else (room.node.id, "")].append(room)
    return [groups[key] for key in sorted(groups)]


def _total(assignments: Sequence[Assignment]) -> float:
    return sum(one.price for one in assignments)


@dataclass
class _Search:
    """Greedy first; then, where roles compete, depth first over tasks with a bound and a limit."""

    tasks: Sequence[tuple[RolePlan, int]]
    rooms: Sequence[Room]
    memo: dict[str, Fitting]
    steps: int = 0
    best: list[Assignment] | None = None
    best_price: float = float("inf")
    _fitting: dict[str, Fitting] = field(default_factory=dict)

    def run(self) -> list[Assignment] | None:
        rank = {(role.name, index): at for at, (role, index) in enumerate(self.tasks)}
        tasks = sorted(self.tasks, key=lambda task: (*_ease(task[0]), rank[task[0].name, task[1]]))
        for role, _ in tasks:
            if role.name not in self._fitting:
                self._fitting[role.name] = self._could_take(role)
            if not self._fitting[role.name]:
                return None
        bounds = [0.0]
        for role, _ in reversed(tasks):
            bounds.append(bounds[-1] + self._fitting[role.name][0][0])
        self._greedy(tasks)
        if len(self._fitting) > 1 and len(tasks) <= DEEP:  # one role: greedy is already the cheapest
            self._descend(tasks, bounds[::-1], [], 0.0)
        return None if self.best is None else sorted(self.best, key=lambda one: rank[one.role, one.index])

    def _could_take(self, role: RolePlan) -> Fitting:
        key = f"{role.image} {role.needs}"
        if key not in self.memo:
            fitting = [(price_of(role.needs, room.node), room) for room in self.rooms if not misfit(role, room.node)]
            self.memo[key] = sorted(fitting, key=lambda pair: pair[0])
        return self.memo[key]

    def _greedy(self, tasks: list[tuple[RolePlan, int]]) -> None:
        chosen: list[Assignment] = []
        taken: list[tuple[RolePlan, Room, tuple[int, ...]]] = []
        for role, index in tasks:
            cost, room = next(self._candidates(role), (0.0, None))
            if room is None:
                break
            gpus = pick_gpus(role.needs, room)
            room.take(role.needs, gpus)
            taken.append((role, room, gpus))
            chosen.append(Assignment(role.name, index, room.node.id, gpus, cost))
        for role, room, gpus in taken:
            room.give_back(role.needs, gpus)
        if len(chosen) == len(tasks):
            self.best, self.best_price = chosen, _total(chosen)

    def _descend(
        self, tasks: list[tuple[RolePlan, int]], bounds: list[float], chosen: list[Assignment], price: float
    ) -> None:
        if price + bounds[len(chosen)] >= self.best_price - 1e-12 or self.steps >= STEPS:
            return
        if len(chosen) == len(tasks):
            self.best, self.best_price = list(chosen), price
            return
        role, index = tasks[len(chosen)]
        for cost, room in self._candidates(role):
            self.steps += 1
            gpus = pick_gpus(role.needs, room)
            room.take(role.needs, gpus)
            chosen.append(Assignment(role.name, index, room.node.id, gpus, cost))
            self._descend(tasks, bounds, chosen, price + cost)
            chosen.pop()
            room.give_back(role.needs, gpus)

    def _candidates(self, role: RolePlan) -> Iterator[tuple[float, Room]]:
        """Cheapest first; of equal price, accelerators are packed (few left over) and everything else is spread."""
        fitting = self._fitting[role.name]
        start = 0
        while start < len(fitting):
            end = start
            while end < len(fitting) and fitting[end][0] == fitting[start][0]:
                end += 1
            equals = [pair for pair in fitting[start:end] if not shortage(role, pair[1])]
            equals.sort(key=lambda pair: (len(pair[1].gpus) if role.needs.gpu.count else 0, _load(pair[1])))
            yield from equals
            start = end


def _ease(role: RolePlan) -> tuple[float, ...]:
    needs = role.needs
    return (-needs.gpu.count, -needs.memory_b.least, -needs.cpu.least)


def _load(room: Room) -> float:
    """How full a node is; by tasks, for those that reserve nothing, weighed by how large the node is."""
    size = room.node.capacity.cpu or 1.0
    return max(room.tasks / size, 1.0 - room.cpu / size)


def _nowhere(roles: Sequence[RolePlan], count: int, rooms: Sequence[Room], *, fast: bool) -> Placement:
    rejections = tuple(_rejections(roles, rooms))
    refused = {(one.role, one.node) for one in rejections}
    if not rooms:
        reason = "there is no node: join one with `nexus agent join`"
    elif any(all((role.name, room.node.id) in refused for room in rooms) for role in roles):
        reason = "no node fits"
    elif fast:
        reason = f"no fast network has room for all {count} tasks at once"
    else:
        reason = f"the nodes that fit have no room for all {count} tasks at once"
    return Placement((), rejections, reason)


def _rejections(roles: Sequence[RolePlan], rooms: Sequence[Room]) -> Iterator[Rejection]:
    for role in roles:
        for room in rooms:
            reason = misfit(role, room.node) or shortage(role, room)
            if reason:
                yield Rejection(room.node.id, role.name, reason)


def in_words(rejections: Sequence[Rejection], names: Mapping[str, str], limit: int = 12) -> tuple[str, ...]:
    """One line a node while they are few; else how many nodes each reason has, most first."""
    several = len({one.role for one in rejections}) > 1
    if len(rejections) <= limit:
        return tuple(
            f"{names.get(one.node, one.node)}{f' ({one.role})' if several else ''}: {one.reason}" for one in rejections
        )
    counts: defaultdict[str, int] = defaultdict(int)
    for one in rejections:
        counts[one.reason] += 1
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    lines = [f"{count} node{'s' if count > 1 else ''}: {reason}" for reason, count in ranked[:limit]]
    rest = sum(count for _, count in ranked[limit:])
    return (*lines, f"{rest} more for other reasons") if rest else tuple(lines)
