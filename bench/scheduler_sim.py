"""A cluster's life on virtual time through the real scheduler: nodes of 8 accelerators, jobs from queue to end.

python -m bench.scheduler_sim [jobs] [nodes]

Everything that decides is the product's own (`Standing`, `decide`: queue, shares, placement, life cycle, leases). The
world around it is simulated: every commit succeeds at once, and agents report starts and ends.
"""

from __future__ import annotations

import gc
import heapq
import os
import random
import sys
import time
from collections import Counter
from math import inf
from typing import Any

from bench.house import memory_mb
from bench.peer import report
from nexus.kernel.records import altered
from nexus.kernel.units import Range
from nexus.launch.core.policy import Policy
from nexus.launch.core.scheduling import Decision, Seen, agenda, decide
from nexus.launch.core.standing import Snapshot, Standing
from nexus.launch.model import (
    RUN_LIFE,
    RUNS,
    TASK_LIFE,
    TASKS,
    Capacity,
    Cause,
    Gpu,
    GpuNeed,
    Needs,
    Node,
    RolePlan,
    Run,
    RunPlan,
    Task,
    TaskState,
)

GB = 10**9
GPUS = ("A100", "H100", "H200", "L40S", "L4", "V100", "A10G", "T4", "B200", "MI300X", "RTX4090", "RTX6000")
SPECS = 196  # different jobs, as in the arrays of launch benchmarks
PROJECT = "p"
POLICY = Policy(heartbeat_s=1e9, lease_s=1e9, rebuild_s=inf)  # no agent is ever silent
NOW = 1_790_000_000.0


def cluster(count: int, dice: random.Random) -> list[Node]:
    nodes = []
    for number in range(count):
        gpu = Gpu(dice.choice(GPUS), 80 * GB)
        nodes.append(
            Node(
                id=f"node_{number}",
                project=PROJECT,
                created=0.0,
                version=1,
                name=f"n{number}",
                capacity=Capacity(96.0, 768 * GB, 4000 * GB, (gpu,) * 8),
                region=f"r{number % 12}",
                price=round(dice.uniform(2, 40), 4),
                spot=dice.random() < 0.4,
            )
        )
    return nodes


def plans(dice: random.Random) -> list[RunPlan]:
    found = []
    for number in range(SPECS):
        needs = Needs(
            cpu=Range(dice.choice([2.0, 4.0, 8.0])),
            memory_b=Range(dice.choice([8, 16, 64]) * GB),
            gpu=GpuNeed(dice.choice([1, 1, 2, 4, 8]), (dice.choice(GPUS),)),
        )
        count = 4 if number % 20 == 0 else 1
        role = RolePlan(name="main", count=count, needs=needs, argv=("true",), gang=count > 1)
        priority = dice.choice([50, 50, 50, 80])
        found.append(RunPlan(kind="command", roles=(role,), priority=priority, timeout_s=dice.choice([None, 7200.0])))
    return found


class Life:
    """The world: it commits what is decided, and lets tasks start and end."""

    def __init__(self, jobs: int, nodes: int) -> None:
        self.dice = random.Random(1)
        self.standing = Standing.of(Snapshot(runs=(), tasks=(), nodes=cluster(nodes, self.dice)))
        self.plans = plans(self.dice)
        self.jobs, self.submitted, self.ended = jobs, 0, 0
        self.now = NOW
        self.next: list[tuple[float, int, str]] = []  # when a task ends
        self.numbers = 0
        self.spent: Counter[str] = Counter()
        self.looks: list[float] = []
        self.waits: list[float] = []
        self.most_queued = self.most_running = 0

    def live(self) -> None:
        """Everybody hands everything in at first, then time goes from end to end."""
        while self.ended < self.jobs:
            if self.submitted < self.jobs:
                self._submit(min(5000, self.jobs - self.submitted))
            self._settle()
            self.most_queued = max(self.most_queued, len(self.standing.queue))
            self.most_running = max(self.most_running, len(self.standing.tasks))
            if self.ended < self.jobs and (self.submitted == self.jobs or self.standing.queue):
                self._end_some()

    def idle_look_s(self) -> float:
        """CPU seconds of a look at which nothing has changed."""
        began = time.process_time()
        for _ in range(100):
            self._look()
        return (time.process_time() - began) / 100

    def _submit(self, count: int) -> None:
        changes: list[Any] = []
        for _ in range(count):
            plan = self.plans[self.dice.randrange(SPECS)]
            self.submitted += 1
            run = Run(id=f"run_{self.submitted}", project=PROJECT, created=self.now, version=1, name="job",
                      kind="command", plan=plan, user=f"user{self.submitted % 10}")  # fmt: skip
            changes.append((RUNS, run))
        self._learn(changes)

    def _settle(self) -> None:
        while True:
            began = time.process_time()
            decision = self._look()
            self.looks.append(time.process_time() - began)
            self._commit(decision)
            if not decision.more and not self.standing.touched_runs:
                return

    def _look(self) -> Decision:
        began = time.process_time()
        todo = agenda(self.standing, self.now, self.now, POLICY.steps)
        decision = decide(self.standing, todo, Seen(monotonic=self.now), self.now, POLICY)
        self.spent["decide"] += time.process_time() - began  # type: ignore[assignment]
        return decision

    def _commit(self, decision: Decision) -> None:
        versions: dict[str, int] = {}
        changes: list[Any] = []
        for group in decision.groups:
            for kind, record in group.changes:
                version = versions.get(record.id, record.version) + 1
                versions[record.id] = version
                changes.append((kind, altered(record, version=version)))
                if isinstance(record, Run) and RUN_LIFE.is_final(record.state):
                    self.ended += 1
        self._learn(changes)
        leased = [record for kind, record in changes if kind is TASKS and record.state is TaskState.LEASED]
        self.waits += [self.now - self.standing.runs[task.run].created for task in leased]
        self._learn([(TASKS, self._started(task)) for task in leased])

    def _learn(self, changes: list[Any]) -> None:
        began = time.process_time()
        self.standing.learn(changes)
        self.spent["learn"] += time.process_time() - began  # type: ignore[assignment]

    def _started(self, task: Task) -> Task:
        self.numbers += 1
        heapq.heappush(self.next, (self.now + self.dice.uniform(60, 3600), self.numbers, task.id))
        return altered(task, state=TaskState.RUNNING, started=self.now, version=task.version + 1)

    def _end_some(self) -> None:
        """The tasks that end within the next second of virtual time."""
        if not self.next:
            raise SystemExit(f"{len(self.standing.queue)} jobs fit on no node: take more nodes")
        self.now = max(self.now, self.next[0][0]) + 1.0
        over: list[Any] = []
        while self.next and self.next[0][0] <= self.now:
            task = self.standing.tasks.get(heapq.heappop(self.next)[2])
            if task is not None and not TASK_LIFE.is_final(task.state):
                over.append((TASKS, altered(task, state=TaskState.SUCCEEDED, cause=Cause.DONE, exit_code=0,
                                            ended=self.now, version=task.version + 1)))  # fmt: skip
        self._learn(over)


def measure(jobs: int, nodes: int) -> dict[str, str]:
    """What one life costs, in words."""
    began = time.process_time()
    life = Life(jobs, nodes)
    built = time.process_time() - began
    began = time.process_time()
    life.live()
    total = time.process_time() - began
    looks = sorted(life.looks)
    decided, learned = life.spent["decide"], life.spent["learn"]
    return {
        "nodes, accelerators, jobs": f"{nodes:,}, {8 * nodes:,}, {jobs:,}",
        "most in the queue, most tasks at once": f"{life.most_queued:,}, {life.most_running:,}",
        "virtual hours": f"{(life.now - NOW) / 3600:.1f}",
        "CPU seconds, all": f"{total:.1f}",
        "deciding, learning, the world": f"{decided:.1f}, {learned:.1f}, {total - decided - learned:.1f}",
        "whole lives of jobs per CPU second": f"{jobs / total:,.0f}",
        "looks": f"{len(looks):,}",
        "CPU ms of a look, p50, p99": f"{looks[len(looks) // 2] * 1e3:.2f}, {looks[len(looks) * 99 // 100] * 1e3:.1f}",
        "CPU ms of a look when nothing changed": f"{life.idle_look_s() * 1e3:.3f}",
        "CPU seconds to build the standing": f"{built:.2f}",
        "resident MB at the end": f"{memory_mb(os.getpid()):.0f}",
    }


def main() -> None:
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    nodes = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    gc.freeze()
    free = measure(max(1, jobs // 20), nodes)  # first: what a process once had, it keeps
    queued = measure(jobs, nodes)
    lines = [
        f"Jobs of {SPECS} kinds, gangs of 4 among them, of 10 users; handed in as fast as they are taken.",
        "",
        "| what | there is room for all | far more jobs than room |",
        "|---|---|---|",
        *(f"| {name} | {free[name]} | {queued[name]} |" for name in queued),
    ]
    report("scheduler_sim", "\n".join(lines))


if __name__ == "__main__":
    main()
