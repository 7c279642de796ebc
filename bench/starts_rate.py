"""How many tasks a second one server can start: handed in by batches, taken by agents that start nothing.

The agents are coroutines in a second process, and speak the protocol as the real one does: a task that is ordered is
reported running, then ended, until the server has acknowledged it. So each start is a run stored, a lease, an order, a
report and a change of state, with the end of another task beside it.

    python -m bench.starts_rate [runs] [agents]
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from bench.agents_10k import HEARTBEAT_S, Agent, Drive, populate
from bench.house import cpu_s, new_house
from bench.peer import Figure, report

_BATCH = 1000


# --------------------------------------------------------------------------- the agents' process


class Worker(Agent):
    """An agent whose tasks run as soon as they are ordered, and end as soon as that is reported."""

    drive: Starts

    def told(self, desired: dict[str, Any]) -> None:
        ended = set(desired.get("acknowledged", ()))
        before = {one["task"]: one for one in self.report["tasks"] if one["task"] not in ended}
        tasks = {name: {**one, "state": "succeeded", "exit_code": 0} for name, one in before.items()}
        for order in desired.get("orders", ()):
            if order["task"] not in tasks and order["task"] not in ended:
                tasks[order["task"]] = {"task": order["task"], "epoch": order["epoch"], "state": "running"}
        self.drive.count(len(tasks.keys() - before.keys()), len(ended))
        has_news = list(tasks.values()) != self.report["tasks"]
        self.report["tasks"] = list(tasks.values())
        self.body = json.dumps(self.report).encode()
        self.version, self.wait_s = desired["version"], 0.0 if has_news else HEARTBEAT_S
        self.sync()


class Starts(Drive):
    """Says when the first and every later task was started, and when all have ended."""

    def __init__(self, runs: int) -> None:
        super().__init__()
        self.runs, self.started, self.ended = runs, 0, 0
        self.done = asyncio.Event()

    def count(self, started: int, ended: int) -> None:
        self.started, self.ended = self.started + started, self.ended + ended
        if started and self.started == self.runs:
            print("started", flush=True)
        if ended and self.ended >= self.runs:
            self.done.set()

    async def work(self, port: int, tokens: list[str]) -> None:
        loop = asyncio.get_running_loop()
        for number, token in enumerate(tokens):
            await loop.create_connection(
                lambda t=token, n=number: Worker(self, t, f"n{n}", 0.0),  # type: ignore[misc]
                "127.0.0.1",
                port,
            )
        await asyncio.sleep(1.0)
        print("ready", flush=True)
        await self.done.wait()
        self.over = True
        print("ended", flush=True)


# --------------------------------------------------------------------------- the measurement


def measure(runs: int, agents: int) -> tuple[float, float, float]:
    """Starts a second, whole lives a second, and the server's CPU ms for each."""
    from nexus.kernel.units import Range
    from nexus.launch.faces.client import LaunchClient
    from nexus.launch.model import Needs, RolePlan, RunPlan, Submission

    with new_house(NEXUS_HEARTBEAT=f"{HEARTBEAT_S:g}", NEXUS_SUBMIT_RATE="0") as made:
        tokens = asyncio.run(populate(made.home, agents))
        made.up(agent=False)
        assert made.server
        client = LaunchClient(made.http)
        words = [sys.executable, "-m", "bench.starts_rate", "--work", str(made.port), str(runs)]
        drive = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert drive.stdin
        assert drive.stdout
        drive.stdin.write(json.dumps(tokens))
        drive.stdin.close()
        plan = RunPlan(kind="command", roles=(RolePlan(name="main", argv=("true",), needs=Needs(cpu=Range(0.1))),))
        watchdog = threading.Timer(300, drive.kill)
        watchdog.start()
        said = {}
        for line in drive.stdout:
            said[line.strip()] = time.perf_counter()
            if line.strip() == "ready":
                before, begun = cpu_s(made.server.pid), time.perf_counter()
                for first in range(0, runs, _BATCH):
                    count = min(_BATCH, runs - first)
                    client.submit_many([Submission(name=f"job{first + one}", plan=plan) for one in range(count)])
        watchdog.cancel()
        if drive.wait() or "ended" not in said:
            raise RuntimeError(f"not all of {runs} runs were started and ended: {sorted(said)}")
        used = cpu_s(made.server.pid) - before
        while client.page(state="running", limit=1).runs:
            time.sleep(0.05)
        done = client.page(state="succeeded", limit=1000).runs
        if len(done) < min(runs, 1000):
            raise RuntimeError(f"only {len(done)} runs have succeeded")
        return runs / (said["started"] - begun), runs / (said["ended"] - begun), used / runs * 1000


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        with suppress(ImportError):
            import uvloop

            asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        asyncio.run(Starts(int(sys.argv[3])).work(int(sys.argv[2]), json.load(sys.stdin)))
        return
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    agents = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    starts, lives, cpu = (Figure(values) for values in zip(*[measure(runs, agents) for _ in range(3)], strict=True))
    lines = [
        f"| {runs:,} runs in batches of {_BATCH:,}, {agents} simulated agents | |",
        "|---|---|",
        f"| starts a second, from the first handed in to the last one running | {starts} |",
        f"| whole lives a second, to the last one's acknowledged end | {lives} |",
        f"| CPU of the server for one life, ms | {cpu} |",
    ]
    report("starts_rate", "\n".join(lines))


if __name__ == "__main__":
    main()
