"""Federated simulation beside pfl: client updates a second, and a CPU second, on the same workload in the same run.

    OMP_NUM_THREADS=1 python -m bench.federate_sim [ROUNDS]

Two workers with one thread each on both sides, in turns (ours, pfl, ours, pfl ...), the first round of each left out.
CPU seconds are those of the whole process tree inside the rounds: the figure that a busy machine spoils least.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.federate_workload import BATCH, COHORT, RATE, USERS, data, loss, model
from bench.peer import Figure, peer_python, report

WORKERS, REPEAT = 2, 3
HERE = Path(__file__).parent


def rates(at: Sequence[float], cpu: Sequence[float]) -> tuple[float, float]:
    """Updates a second and a CPU second, from the end of the first round on."""
    updates = COHORT * (len(at) - 1)
    return updates / (at[-1] - at[0]), updates / (cpu[-1] - cpu[0])


def child_cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ours(rounds: int) -> tuple[float, float]:
    """In a process of its own, as pfl's workers are."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.federate_sim", "--ours", str(rounds)], check=True, capture_output=True, text=True
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return rates([line["at"] for line in lines], [line["cpu"] for line in lines])


def run_ours(rounds: int) -> None:
    from nexus.federate.core.task import Task
    from nexus.federate.model import Local, Settings
    from nexus.federate.simulation import simulate

    x, y = data()
    task = Task(
        model=model,
        data=lambda user: (x[user], y[user]),
        loss=loss,
        clients=USERS,
        settings=Settings(rounds=rounds, cohort=COHORT, seed=1, local=Local(epochs=1, batch=BATCH, lr=RATE)),
    )

    def each(_: object) -> None:
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
        cpu = time.process_time() + sum(child_cpu(int(pid)) for pid in children)
        print(json.dumps({"at": time.monotonic(), "cpu": cpu}), flush=True)

    simulate(task, task.settings, workers=WORKERS, each=each)


def pfl(python: Path, rounds: int) -> tuple[float, float]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(WORKERS),
        "LOCAL_WORLD_SIZE": str(WORKERS),
        "OMP_NUM_THREADS": "1",
        "TORCHELASTIC_RUN_ID": "bench",  # pfl takes its ranks from the environment only where this is set
    }
    workers = [
        subprocess.Popen(
            [python, HERE / "federate_pfl.py", str(rounds)],
            env=env | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(WORKERS)
    ]
    outs = [worker.communicate()[0] for worker in workers]
    if any(worker.returncode for worker in workers):
        raise SystemExit("pfl failed")
    tracks = [[json.loads(line) for line in out.splitlines() if line.startswith("{")] for out in outs]
    cpu = [sum(track[number]["cpu"] for track in tracks) for number in range(rounds)]
    return rates([line["at"] for line in tracks[0]], cpu)


def share_torch(python: Path) -> None:
    """Let the peer import the same torch: a line in its site-packages, behind its own packages."""
    import torch

    ours = Path(torch.__file__).parents[1]
    site = next((python.parents[1] / "lib").glob("python3*/site-packages"))
    (site / "the-same-torch.pth").write_text(f"{ours}\n")


def main() -> None:
    if sys.argv[1:2] == ["--ours"]:
        run_ours(int(sys.argv[2]))
        return
    rounds = int(sys.argv[1]) if sys.argv[1:] else 20
    python = peer_python("pfl", "pfl==0.6.0")
    results: dict[str, list[tuple[float, float]]] = {"Nexus": [], "pfl 0.6": []}
    if python:
        share_torch(python)
    for _ in range(REPEAT):
        results["Nexus"].append(ours(rounds))
        if python:
            results["pfl 0.6"].append(pfl(python, rounds))
    lines = [
        "# Federated simulation",
        "",
        (
            f"`OMP_NUM_THREADS=1 python -m bench.federate_sim {rounds}` on {os.cpu_count()} cores, Python "
            f"{platform.python_version()}, load {os.getloadavg()[0]:.1f}. {USERS} users, cohort {COHORT}, 113,674 "
            f"parameters, {WORKERS} workers x 1 thread, {rounds} rounds, {REPEAT} times in turns."
        ),
        "",
        "| engine | client updates/s | updates per CPU second |",
        "|---|---|---|",
    ]
    figures = {name: [Figure([pair[i] for pair in pairs]) for i in (0, 1)] for name, pairs in results.items() if pairs}
    lines += [f"| {name} | {wall} | {cpu} |" for name, (wall, cpu) in figures.items()]
    if "pfl 0.6" in figures:
        wall, cpu = (a.median / b.median for a, b in zip(figures["Nexus"], figures["pfl 0.6"], strict=True))
        lines += ["", f"Ratio to pfl: {wall:.2f} (wall), {cpu:.2f} (CPU)."]
    report("federate", "\n".join(lines))


if __name__ == "__main__":
    main()
