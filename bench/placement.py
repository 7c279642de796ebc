"""Placement decisions for each second of CPU, beside a plain Python scan and a full numpy scan in the same run.

python -m bench.placement

10,000 nodes of 8 accelerators: 12 types, 12 regions, 40 % spot, three sizes of processor and memory, labels,
containers on half of them, every node its own price. Requests name types, counts, memory of an accelerator, processors,
memory, disk, labels, region globs, spot or not, a price cap, and an image. All three methods see the same requests in
the same order and hold what they chose; they must choose at the same total price. Single-threaded, CPU time.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np

from bench.peer import report
from nexus.kernel.units import Range
from nexus.launch.core.placement.rooms import Rooms
from nexus.launch.core.policy import Policy
from nexus.launch.model import Capacity, Gpu, GpuNeed, Needs, Node, RolePlan, RunPlan

GIB = 1024**3
MODELS = ("A10", "A100", "A100-80", "B200", "H100", "H200", "L4", "L40S", "MI300X", "RTX4090", "T4", "V100")
SIZES = (24, 40, 80, 180, 80, 141, 24, 48, 192, 24, 16, 32)
REGIONS = ("ap-1", "ap-2", "eu-1", "eu-2", "eu-3", "eu-4", "sa-1", "us-1", "us-2", "us-3", "us-4", "us-5")
GLOBS = ((), (), ("eu-*",), ("us-*",), ("eu-1", "us-1"), ("ap-*", "sa-*"))
HOSTS = ((64, 512), (96, 1024), (128, 2048))
WEAR = 1 + Policy().spot_reclaims_per_h * (Policy().reclaim_loss_s + Policy().restart_loss_s) / 3600


def fleet(count: int, seed: int = 1) -> list[Node]:
    """`count` nodes, in pods of 32 alike on one fast network."""
    rng = random.Random(seed)
    nodes = []
    for at in range(count):
        if at % 32 == 0:
            model, region, (cpu, memory) = rng.randrange(12), rng.choice(REGIONS), rng.choice(HOSTS)
            gpus = (Gpu(f"NVIDIA {MODELS[model]}", SIZES[model] * GIB),) * 8
        nodes.append(
            Node(
                id=f"node_{at:06}",
                project="p",
                created=0.0,
                name=f"n{at:06}",
                capacity=Capacity(cpu, memory * GIB, 2000 * GIB, gpus),
                labels={"tier": "gold"} if rng.random() < 0.2 else {},
                region=region,
                network=f"pod{at // 32}",
                price=round((2 + 2 * model) * rng.uniform(0.8, 1.6), 2) + at * 1e-7,
                spot=rng.random() < 0.4,
                isolation=("process", "container") if rng.random() < 0.5 else ("process",),
            )
        )
    return nodes


def requests(count: int, seed: int = 2, classes: int | None = None) -> list[RunPlan]:
    """Plans of one task each; `classes`: only so many different ones."""
    rng = random.Random(seed)
    made = [request(rng) for _ in range(classes or count)]
    return made if classes is None else [rng.choice(made) for _ in range(count)]


def request(rng: random.Random, count: int = 1, gpus: int | None = None, network: str = "any") -> RunPlan:
    gpu_count = gpus or rng.choice((1, 1, 1, 2, 2, 4, 8))
    names = tuple(sorted(rng.sample(MODELS, rng.choice((1, 2, 3))))) if rng.random() < 0.8 else ()
    needs = Needs(
        cpu=Range(rng.randint(1, 6) * gpu_count),
        memory_b=Range(rng.randint(4, 48) * GIB * gpu_count),
        disk_b=Range(rng.choice((50, 100, 500)) * GIB),
        gpu=GpuNeed(gpu_count, names, Range(rng.choice((None, 20, 40)) and rng.choice((20, 40)) * GIB)),
        labels={"tier": "gold"} if rng.random() < 0.1 else {},
        regions=rng.choice(GLOBS),
        spot=rng.choice(("auto", "auto", "never", "only")),
    )
    cap = rng.choice((None, None, 8.0, 16.0))
    role = RolePlan(
        name="main", count=count, needs=needs, argv=("x",), gang=count > 1, image="i" if rng.random() < 0.2 else None
    )
    return RunPlan(
        kind="command", roles=(role,), max_price=None if cap is None else cap * gpu_count * count, network=network
    )


# --------------------------------------------------------------------------- three methods


class Held(NamedTuple):
    """What a task's record says of what it holds."""

    id: str
    node: str
    cpu: float
    memory_b: int
    gpus: tuple[int, ...]


class Ours:
    """`Rooms`, as the scheduler uses it: place, then hold."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.rooms = Rooms.of(nodes)
        self.ids = [node.id for node in nodes]
        self.count = 0

    def hold(self, at: int, gpus: int, cpu: float, memory_b: int) -> None:
        self.count += 1
        held: Any = Held(f"t{self.count}", self.ids[at], cpu, memory_b, tuple(range(gpus)))
        self.rooms.hold(held)

    def __call__(self, plan: RunPlan) -> float | None:
        answer = self.rooms.place(plan, (("main", 0),))
        if not answer.assignments:
            return None
        one, needs = answer.assignments[0], plan.roles[0].needs
        self.count += 1
        held: Any = Held(f"t{self.count}", one.node, needs.cpu.least, int(needs.memory_b.least), one.gpus)
        self.rooms.hold(held)
        return one.price

    def gang(self, plan: RunPlan) -> float | None:
        answer = self.rooms.place(plan, [("main", index) for index in range(plan.roles[0].count)])
        return answer.price if answer.assignments else None


def share(needs: Needs, cpu: float, memory_b: float) -> float:
    return min(1.0, max(needs.gpu.count / 8, needs.cpu.least / cpu, needs.memory_b.least / memory_b))


class Scan:
    """Look at every node: what one writes first."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.rows = [
            [node, node.price * (WEAR if node.spot else 1.0), 8, node.capacity.cpu, node.capacity.memory_b]
            for node in nodes
        ]

    def hold(self, at: int, gpus: int, cpu: float, memory_b: int) -> None:
        row = self.rows[at]
        row[2] -= gpus
        row[3] -= cpu
        row[4] -= memory_b

    def __call__(self, plan: RunPlan) -> float | None:
        role = plan.roles[0]
        needs = role.needs
        count, cpu, memory, disk = needs.gpu.count, needs.cpu.least, needs.memory_b.least, needs.disk_b.least
        models = {name for name, size in zip(MODELS, SIZES, strict=True) if suits(needs, name, size)}
        regions = {region for region in REGIONS if placed(needs, region)}
        best, least = None, float("inf")
        for row in self.rows:
            node, ranked, free_gpus, free_cpu, free_memory = row
            if free_gpus < count or free_cpu < cpu or free_memory < memory:
                continue
            capacity = node.capacity
            if capacity.gpus[0].name[7:] not in models or node.region not in regions or capacity.disk_b < disk:
                continue
            if (node.spot and needs.spot == "never") or (not node.spot and needs.spot == "only"):
                continue
            if needs.labels and node.labels != needs.labels:
                continue
            if role.image and len(node.isolation) < 2:
                continue
            part = share(needs, capacity.cpu, capacity.memory_b)
            if ranked * part < least and (plan.max_price is None or node.price * part <= plan.max_price + 1e-9):
                best, least = row, ranked * part
        if best is None:
            return None
        best[2] -= count
        best[3] -= cpu
        best[4] -= memory
        return best[0].price * share(needs, best[0].capacity.cpu, best[0].capacity.memory_b)


def suits(needs: Needs, name: str, size: int) -> bool:
    low = needs.gpu.memory_b.low
    named = not needs.gpu.names or any(fnmatchcase(name.lower(), f"*{glob.lower()}*") for glob in needs.gpu.names)
    return named and (low is None or size * GIB >= low)


def placed(needs: Needs, region: str) -> bool:
    return not needs.regions or any(fnmatchcase(region, glob) for glob in needs.regions)


class Numpy:
    """Compare all nodes at once, in arrays."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.price = np.array([node.price for node in nodes])
        self.spot = np.array([node.spot for node in nodes])
        self.ranked = self.price * np.where(self.spot, WEAR, 1.0)
        self.model = np.array([MODELS.index(node.capacity.gpus[0].name[7:]) for node in nodes])
        self.region = np.array([REGIONS.index(node.region) for node in nodes])
        self.gold = np.array([bool(node.labels) for node in nodes])
        self.container = np.array([len(node.isolation) > 1 for node in nodes])
        self.all_cpu = np.array([node.capacity.cpu for node in nodes])
        self.all_memory = np.array([float(node.capacity.memory_b) for node in nodes])
        self.disk = np.array([float(node.capacity.disk_b) for node in nodes])
        self.network = np.array([at // 32 for at in range(len(nodes))])
        self.gpus = np.full(len(nodes), 8)
        self.cpu, self.memory = self.all_cpu.copy(), self.all_memory.copy()

    def hold(self, at: int, gpus: int, cpu: float, memory_b: int) -> None:
        self.gpus[at] -= gpus
        self.cpu[at] -= cpu
        self.memory[at] -= memory_b

    def fitting(self, plan: RunPlan) -> tuple[Any, Any]:
        """The nodes that fit, and the share of each that a task takes."""
        role = plan.roles[0]
        needs = role.needs
        models = np.array([suits(needs, name, size) for name, size in zip(MODELS, SIZES, strict=True)])
        regions = np.array([placed(needs, region) for region in REGIONS])
        fits = models[self.model] & (self.gpus >= needs.gpu.count) & (self.cpu >= needs.cpu.least)
        fits &= (self.memory >= needs.memory_b.least) & (self.disk >= needs.disk_b.least) & regions[self.region]
        if needs.spot != "auto":
            fits &= self.spot if needs.spot == "only" else ~self.spot
        if needs.labels:
            fits &= self.gold
        if role.image:
            fits &= self.container
        found = np.flatnonzero(fits)
        part = np.maximum(needs.cpu.least / self.all_cpu[found], needs.memory_b.least / self.all_memory[found])
        return found, np.minimum(1.0, np.maximum(needs.gpu.count / 8, part))

    def __call__(self, plan: RunPlan) -> float | None:
        needs = plan.roles[0].needs
        found, part = self.fitting(plan)
        if plan.max_price is not None:
            keep = self.price[found] * part <= plan.max_price + 1e-9
            found, part = found[keep], part[keep]
        if not len(found):
            return None
        at = int(np.argmin(self.ranked[found] * part))
        node = int(found[at])
        self.hold(node, needs.gpu.count, needs.cpu.least, int(needs.memory_b.least))
        return float(self.price[node] * part[at])

    def gang(self, plan: RunPlan) -> float | None:
        """The cheapest nodes, each as often as it holds a task; on a fast network, in each network by itself."""
        role = plan.roles[0]
        needs = role.needs
        found, part = self.fitting(plan)
        slots = np.minimum(self.gpus[found] // needs.gpu.count, self.cpu[found] // needs.cpu.least)
        slots = np.minimum(slots, self.memory[found] // needs.memory_b.least)
        order = np.argsort(self.ranked[found] * part)
        found, part, slots = found[order], part[order], slots[order]
        if plan.network != "fast":
            return self.cheapest(role.count, found, part, slots)[1]
        networks = self.network[found]
        room = np.bincount(networks, weights=slots, minlength=1)
        best = (float("inf"), None)
        for network in np.flatnonzero(room >= role.count):
            here = networks == network
            best = min(best, self.cheapest(role.count, found[here], part[here], slots[here]), key=lambda one: one[0])
        return best[1]

    def cheapest(self, count: int, found: Any, part: Any, slots: Any) -> tuple[float, float | None]:
        """As ranked, and as paid."""
        taken = np.minimum(slots, np.maximum(0, count - (np.cumsum(slots) - slots)))
        if taken.sum() < count:
            return float("inf"), None
        share = part * taken
        return float((self.ranked[found] * share).sum()), float((self.price[found] * share).sum())


METHODS = ("index", "numpy scan", "Python scan")


# --------------------------------------------------------------------------- measuring

WARM = requests(200, seed=11)


@dataclass
class Measured:
    count: int
    rate: float  # decisions for each CPU second
    p50_us: float
    p99_us: float
    placed: int
    price: float

    def __str__(self) -> str:
        return f"{self.rate:,.0f} ({self.p50_us:,.0f} / {self.p99_us:,.0f} µs)"


@contextmanager
def quiet() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def measure(method: Callable[[RunPlan], float | None], plans: Sequence[RunPlan]) -> Measured:
    each, prices = [], []
    with quiet():
        began = time.process_time()
        for plan in plans:
            start = time.process_time()
            price = method(plan)
            each.append(time.process_time() - start)
            if price is not None:
                prices.append(price)
        spent = time.process_time() - began
    each.sort()
    return Measured(
        len(plans),
        len(plans) / spent,
        statistics.median(each) * 1e6,
        each[int(len(each) * 0.99)] * 1e6,
        len(prices),
        sum(prices),
    )


def agree(measured: Sequence[Measured]) -> None:
    first = measured[0]
    for other in measured[1:]:
        assert other.placed == first.placed, "the methods place different requests"
        assert abs(other.price - first.price) < 1e-6 * max(1.0, first.price), "the methods choose at different prices"


def use(method: Any, nodes: Sequence[Node], share: float) -> None:
    """Some of that share of the nodes is held already."""
    rng = random.Random(3)
    for at, node in enumerate(nodes):
        if rng.random() < share:
            gpus = rng.randint(1, 8)
            method.hold(at, gpus, gpus / 8 * node.capacity.cpu, gpus * node.capacity.memory_b // 8)


def beside(nodes: Sequence[Node], plans: Sequence[RunPlan], used: float = 0.0, few: int = 300) -> list[str]:
    """One row. The scan decides the first `few` only, numpy ten times as many: on those the methods must agree."""
    cells = []
    counts = {Ours: len(plans), Numpy: few * 10, Scan: few}
    answers: dict[int, list[Measured]] = {few: [], few * 10: []}
    for make, count in counts.items():
        method = make(nodes)
        use(method, nodes, used)
        warm, rest = plans[:200], plans[200:]
        for plan in warm:
            method(plan)
        parts = [measure(method, rest[:few])]
        if count > few:
            parts.append(measure(method, rest[few : few * 10]))
        if count > few * 10:
            parts.append(measure(method, rest[few * 10 : count]))
        answers[few].append(parts[0])
        answers[few * 10] += parts[1:2]
        cells.append(str(max(parts, key=lambda part: part.count)))
    agree(answers[few])
    agree(answers[few * 10])
    return cells


def gangs(nodes: Sequence[Node], size: int, network: str, used: float, repeat: int = 110) -> list[str]:
    """Milliseconds of CPU, median and 90 %, for gangs of `size` tasks that want 1, 2, 4 or 8 accelerators each."""
    rng = random.Random(5)
    plans = [replace(request(rng, size, rng.choice((1, 2, 4, 8)), network), max_price=None) for _ in range(repeat)]
    cells, prices = [], []
    for make in (Ours, Numpy):
        method: Any = make(nodes)
        use(method, nodes, used)
        for plan in (*WARM, *plans[:10]):
            method.gang(plan)
        spent, answers = [], []
        with quiet():
            for plan in plans[10:]:
                start = time.process_time()
                answers.append(method.gang(plan))
                spent.append((time.process_time() - start) * 1e3)
        prices.append([round(price, 4) if price is not None else None for price in answers])
        cells.append(f"{statistics.median(spent):.2f} / {sorted(spent)[int(len(spent) * 0.9)]:.2f}")
    assert prices[0] == prices[1], "the methods choose at different prices"
    return [*cells, f"{sum(price is not None for price in prices[0])} of {len(prices[0])}"]


def array(nodes: Sequence[Node], tasks: int) -> str:
    """Tasks for each CPU second of jobs that are one array each."""
    rng = random.Random(7)
    method = Ours(nodes)
    plans = [replace(request(rng, tasks, 1), max_price=None) for _ in range(12)]
    placed, spent = 0, 0.0
    with quiet():
        for plan in plans:
            wanted = [("main", index) for index in range(tasks)]
            start = time.process_time()
            answer = method.rooms.place(plan, wanted)
            spent += time.process_time() - start
            placed += len(answer.assignments)
            method.rooms.take(plan, answer)
    return f"{placed / spent:,.0f}"


def table(head: str, rows: Sequence[Sequence[str]]) -> list[str]:
    return [head, "|---" * (head.count("|") - 1) + "|", *(f"| {' | '.join(row)} |" for row in rows), ""]


def main() -> None:
    nodes = fleet(10_000)
    crowd = requests(40_000, classes=482)
    lines = table(
        f"| 10,000 nodes, 80,000 accelerators | {' | '.join(METHODS)} |",
        [
            ["10,000 distinct requests", *beside(nodes, requests(10_000))],
            ["the same, 90 % of the nodes in use", *beside(nodes, requests(10_000), 0.9)],
            ["10,000 of 196 classes", *beside(nodes, requests(10_000, classes=196))],
            ["overload: 40,000 of 482 classes, 90 % in use", *beside(nodes, crowd, 0.9)],
        ],
    )
    lines += [f"Job arrays of 1,000 tasks: {array(nodes, 1000)} tasks placed for each CPU second.", ""]
    rows = [
        [f"{size} tasks, network {network}", *gangs(nodes, size, network, 0.5)]
        for network in ("any", "fast")
        for size in (2, 8, 32)
    ]
    lines += table(
        "| gang: ms of CPU, median / 90 %; half of the nodes in use | index | numpy scan | have a place |", rows
    )
    curve = []
    for count in (1_000, 10_000, 100_000):
        world = fleet(count)
        cells = beside(world, requests(10_000), 0.5, few=300 if count < 100_000 else 30)
        gang = [gangs(world, 32, network, 0.5, repeat=40)[0] for network in ("any", "fast")]
        curve.append([f"{count:,}", *cells, *gang])
    lines += table(f"| nodes | {' | '.join(METHODS)} | gang of 32, ms | on a fast network, ms |", curve)
    report("placement", "\n".join(lines))


if __name__ == "__main__":
    main()
