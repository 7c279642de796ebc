"""A thousand trivial jobs through the whole control plane: handed in by a client, run by this machine's own agent.

HyperQueue does the same beside us: its client hands in jobs of one task each, and a worker of this machine runs them.
Its client looks once a second whether all have ended, so few jobs say little about it.

The clock starts before the first is handed in and stops when the server says that the last has ended, its log and all.

    python -m bench.jobs_rate [jobs]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.house import cpu_s, house
from bench.peer import Figure, peer_python, report


def measure(jobs: int) -> tuple[float, float, float]:
    """Jobs per second, and the CPU ms of server and agent for each."""
    from nexus.launch.faces.client import LaunchClient
    from nexus.launch.model import RUN_LIFE, RolePlan, RunPlan, Submission

    with house() as made:
        assert made.server
        client = LaunchClient(made.http)
        plan = RunPlan(kind="command", roles=(RolePlan(name="main", argv=("true",)),))
        first = client.submit(Submission(name="warm", plan=plan))
        for _ in client.follow(first.id):
            pass
        pids = made.server.pid, made.agent_pid()
        before = [cpu_s(pid) for pid in pids]
        start = time.perf_counter()
        client.submit_many([Submission(name=f"job{number}", plan=plan) for number in range(jobs)])
        while any(client.page(state=str(state), limit=1).runs for state in RUN_LIFE.live):
            time.sleep(0.02)
        taken = time.perf_counter() - start
        used = [cpu_s(pid) - earlier for pid, earlier in zip(pids, before, strict=True)]
        done = [run for run in client.page(limit=jobs + 1).runs if run.state == "succeeded"]
        if len(done) != jobs + 1:
            raise RuntimeError(f"{len(done)} of {jobs + 1} runs succeeded")
    return jobs / taken, used[0] / jobs * 1000, used[1] / jobs * 1000


def peer(python: Path, jobs: int) -> float:
    """HyperQueue's jobs per second."""
    script = Path(__file__).parent / "hyperqueue_jobs.py"
    words = [str(python), str(script.resolve()), str(jobs)]
    with tempfile.TemporaryDirectory() as folder:  # where its tasks leave their output
        done = subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True, timeout=300)
    return float(done.stdout.split()[-1])


def main() -> None:
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    python = peer_python("hyperqueue", "hyperqueue>=0.27")
    found, theirs = [], []
    for _ in range(3):  # in turns, so that what else the machine does meets both
        found.append(measure(jobs))
        theirs += [peer(python, jobs)] if python else []
    rate, server, agent = (Figure(values) for values in zip(*found, strict=True))
    lines = [
        f"| {jobs} jobs `true`, one local agent | |",
        "|---|---|",
        f"| jobs per second, from the first handed in to the last one's end | {rate} |",
        f"| CPU of the server a job, ms | {server} |",
        f"| CPU of the agent a job, ms | {agent} |",
    ]
    if theirs:
        ratio = rate.median / Figure(theirs).median
        lines += [f"| HyperQueue: jobs per second | {Figure(theirs)} |", "", f"Ratio Nexus / HyperQueue: {ratio:.2f}"]
    report("jobs_rate", "\n".join(lines))


if __name__ == "__main__":
    main()
