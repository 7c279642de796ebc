"""The list of runs with a hundred thousand of them stored: over the API on a warm connection, and as a command.

python -m bench.api_latency [runs]
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

from bench.house import new_house
from bench.peer import Figure, report

_TURNS = 50


async def populate(home: Path, runs: int) -> None:
    """A history of ended runs with a task each, and some that wait."""
    from nexus.app.home import Home
    from nexus.app.settings import load_settings
    from nexus.app.wire import open_services
    from nexus.launch.model import RUNS, TASKS, RolePlan, Run, RunPlan, RunState, Task, TaskState

    Home(home).prepare()
    services = await open_services(load_settings({}, home=home))
    plan = RunPlan(kind="command", roles=(RolePlan(name="main", script="python train.py\n" * 20),))
    now = time.time()
    for first in range(0, runs, 500):
        changes = []
        for number in range(first, min(first + 500, runs)):
            run = Run(
                id=f"run_{number:013x}", project="default", created=now - runs + number, name=f"job{number % 1000}",
                kind="command", plan=plan, state=RunState.SUCCEEDED, started=now, ended=now, job="# a job file\n" * 20,
            )  # fmt: skip
            task = Task(
                id=f"task_{number:013x}", project="default", created=run.created, run=run.id, role="main", index=0,
                attempt=0, node=f"node_{number % 50:013x}", epoch=1, state=TaskState.SUCCEEDED, started=now, ended=now,
            )  # fmt: skip
            changes += [(RUNS, run), (TASKS, task)]
        await services.records.apply(*changes)
    await services.close()


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with new_house() as made:
        asyncio.run(populate(made.home, runs))
        made.up(agent=False)

        def timed(path: str) -> Figure:
            made.http.get(path, dict)
            values = []
            for _ in range(_TURNS):
                start = time.perf_counter()
                made.http.get(path, dict)
                values.append((time.perf_counter() - start) * 1000)
            return Figure(values)

        newest, named, failed = (timed(f"/v1/runs?limit=50{more}") for more in ("", "&name=job7", "&state=failed"))
        command = []
        for _ in range(10):
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "nexus", "runs"], env=made.environ, check=True, stdout=subprocess.DEVNULL
            )
            command.append((time.perf_counter() - start) * 1000)
    lines = [
        f"| {runs:,} runs stored | ms |",
        "|---|---|",
        f"| API, the newest 50 | {newest} |",
        f"| API, the newest 50 of a name | {named} |",
        f"| API, those of a state that none is in | {failed} |",
        f"| `nexus runs`, the whole process | {Figure(command)} |",
    ]
    report("api_latency", "\n".join(lines))


if __name__ == "__main__":
    main()
