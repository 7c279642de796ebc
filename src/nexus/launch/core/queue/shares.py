"""What is held, and by whom: the numbers behind fair shares and quotas."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from nexus.launch.model import Capacity, RolePlan, Task, Usage

GPU_AS_CPUS = 16.0  # by how much an accelerator weighs more than a cpu where one number must do


@dataclass(slots=True)
class Amount:
    """Room and money. Mutable: tallies are added up in place."""

    gpus: int = 0
    cpu: float = 0.0
    memory_b: int = 0
    price: float = 0.0  # per hour

    def add(self, other: Amount, sign: int = 1) -> None:
        """Add, or with `sign` -1 take away."""
        self.gpus += sign * other.gpus
        self.cpu += sign * other.cpu
        self.memory_b += sign * other.memory_b
        self.price += sign * other.price


@dataclass(slots=True)
class Tally:
    """Everything that one project, or one of its users, holds now."""

    tasks: int
    amount: Amount
    counted_cpu: float = 0.0  # as `amount.cpu`; a task that reserves nothing counts as one
    price_since: float = 0.0  # sum of price x creation time: what has accrued follows from it

    def add(self, task: Task, sign: int = 1) -> None:
        """Count a task in, or with `sign` -1 out."""
        self.tasks += sign
        self.amount.add(amount_of_task(task), sign)
        self.counted_cpu += sign * _counted_cpu(task)
        self.price_since += sign * task.price * task.created
        if not self.tasks:  # sums of fractions drift; nothing held is nothing held
            self.amount, self.counted_cpu, self.price_since = Amount(), 0.0, 0.0

    def accrued(self, now: float) -> float:
        """What the held tasks have cost until now."""
        return max(0.0, now * self.amount.price - self.price_since) / 3600.0


K = TypeVar("K", bound=Hashable)
NOTHING = Tally(0, Amount())


class Held:
    """Tallies by project and by user, and what there is in all. A task is counted once, however often it is added."""

    def __init__(self) -> None:
        self.tasks: dict[str, tuple[Task, str]] = {}  # id -> task, user
        self.projects: dict[str, Tally] = {}
        self.users: dict[tuple[str, str], Tally] = {}
        self.nodes: dict[str, tuple[str, Capacity]] = {}  # id -> who may use it, and what it has
        self._parts: dict[str, Amount] = {}  # what there is, by the project that may use it; empty: all may
        self._totals: dict[str, Amount] = {}  # what a project can use, added up

    def add(self, task: Task, user: str) -> None:
        """`task` holds its room from now on."""
        if task.id in self.tasks:
            return
        self.tasks[task.id] = task, user
        self._tally(task, user, 1)

    def remove(self, task_id: str) -> None:
        """It does no more."""
        task, user = self.tasks.pop(task_id, (None, ""))
        if task is not None:
            self._tally(task, user, -1)

    def put_node(self, node_id: str, users: str, capacity: Capacity | None) -> None:
        """What a node has that runs of the project `users` may use (empty: of all projects); None: it is gone."""
        old = self.nodes.pop(node_id, None)
        if old is not None:
            self._parts[old[0]].add(_amount_of_node(old[1]), -1)
        if capacity is not None:
            self.nodes[node_id] = users, capacity
            self._parts.setdefault(users, Amount()).add(_amount_of_node(capacity))
        if not self.nodes:
            self._parts.clear()
        self._totals.clear()

    def total(self, project: str) -> Amount:
        """Everything that a project can use: its own nodes, and those that are shared."""
        total = self._totals.get(project)
        if total is None:
            total = self._totals[project] = Amount()
            for users in {project, ""}:
                total.add(self._parts.get(users, Amount()))
        return total

    def project(self, project: str) -> Tally:
        """What a project holds."""
        return self.projects.get(project, NOTHING)

    def share(self, project: str) -> float:
        """The project's dominant share of what it can use: of gpus, cpu or memory, whichever it holds most of."""
        return _dominant(self.project(project), self.total(project))

    def user_share(self, project: str, user: str) -> float:
        """A user's dominant share."""
        return _dominant(self.users.get((project, user), NOTHING), self.total(project))

    def history(self, usage: Usage | None, now: float, memory_s: float) -> float:
        """What the project has used in the past, as the share of all it can use that would have used as much."""
        total = self.total(usage.project) if usage is not None else Amount()
        everything = (total.cpu + GPU_AS_CPUS * total.gpus) * memory_s
        return decayed(usage, now, memory_s) / everything if usage is not None and everything else 0.0

    def rounded(self) -> dict[str, tuple[int, int, float, int, float]]:
        """Every project's tally, for comparing."""
        return {
            project: (
                tally.tasks,
                tally.amount.gpus,
                round(tally.amount.cpu, 6),
                tally.amount.memory_b,
                round(tally.amount.price, 6),
            )
            for project, tally in sorted(self.projects.items())
        }

    def _tally(self, task: Task, user: str, sign: int) -> None:
        _count(self.projects, task.project, task, sign)
        _count(self.users, (task.project, user), task, sign)


def _dominant(tally: Tally, total: Amount) -> float:
    held = tally.amount
    return max(
        held.gpus / total.gpus if total.gpus else 0.0,
        tally.counted_cpu / total.cpu if total.cpu else float(tally.counted_cpu > 0),
        held.memory_b / total.memory_b if total.memory_b else 0.0,
    )


def _count(book: dict[K, Tally], key: K, task: Task, sign: int) -> None:
    tally = book.setdefault(key, Tally(0, Amount()))
    tally.add(task, sign)
    if not tally.tasks:
        del book[key]


def decayed(usage: Usage | None, now: float, memory_s: float) -> float:
    """A project's past work as it counts now."""
    return usage.work * 0.5 ** (max(0.0, now - usage.at) / memory_s) if usage is not None else 0.0


def amount_of_task(task: Task) -> Amount:
    """What a task holds."""
    return Amount(len(task.gpus), task.cpu, task.memory_b, task.price)


def amount_of_roles(roles: Iterable[RolePlan]) -> Amount:
    """What one task of each of `roles` would hold; the price is not known yet."""
    total = Amount()
    for role in roles:
        needs = role.needs
        total.add(Amount(needs.gpu.count, needs.cpu.least, int(needs.memory_b.least)))
    return total


def work_of(tasks: Iterable[Task]) -> float:
    """The cpu-seconds that the ended ones of `tasks` held; an accelerator counts as `GPU_AS_CPUS`."""
    return sum(
        max(_counted_cpu(task), GPU_AS_CPUS * len(task.gpus)) * max(0.0, task.ended - task.created)
        for task in tasks
        if task.ended is not None
    )


def weights(weight: Mapping[str, float]) -> dict[str, float]:
    """The part of everything that each project deserves."""
    total = sum(weight.values())
    return {project: one / total for project, one in weight.items()}


def _counted_cpu(task: Task) -> float:
    return task.cpu or (0.0 if task.gpus else 1.0)


def _amount_of_node(capacity: Capacity) -> Amount:
    return Amount(len(capacity.gpus), capacity.cpu, capacity.memory_b)
