"""From submit to the first line of the job's log through Slurm, beside sbatch itself in the same run.

A real Slurm on this machine (munged, slurmctld, three slurmd), started for the purpose. Ours is asked through the
Python client: once with nothing there, so that a machine is started for the run (sbatch, an agent, its joining), and
once on the allocation that the run before left warm.

    python -m bench.slurm_start
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

from tests.e2e.house import until
from tests.launch.providers import slurmd

from bench.house import new_house
from bench.peer import Figure, report

REPEAT = 11


def sbatch(cluster: slurmd.Cluster, folder: Path) -> Figure:
    """What a user of Slurm waits: the file is looked at every millisecond."""
    script = folder / "job.sh"
    script.write_text("#!/bin/sh\necho first\n")
    environ = {"PATH": os.environ["PATH"], "SLURM_CONF": str(cluster.conf)}  # the least that Slurm has to carry
    values = []
    for turn in range(REPEAT + 1):
        out = folder / f"{turn}.out"
        start = time.perf_counter()
        subprocess.run(["sbatch", "--parsable", f"--output={out}", str(script)], env=environ, check=True, stdout=-3)
        while not (out.exists() and "first" in out.read_text()):
            time.sleep(0.001)
        if turn:
            values.append(time.perf_counter() - start)
        until(lambda: not cluster.run("squeue", "--noheader"), "the end of the job")
    return Figure(values)


def ours(cluster: slurmd.Cluster, *, idle: str) -> Figure:
    from nexus.app.client import Client

    values = []
    os.chdir(tempfile.mkdtemp(prefix="nexus-bench-empty-"))  # an empty workspace, as sbatch's job has none
    with new_house() as made:
        made.up(agent=False)
        made.run("fleet", "add", "slurm", "lab", "--idle", idle, "--set", f"conf={cluster.conf}")
        client = Client(made.url, made.http.token)
        for turn in range(REPEAT + 1):
            if idle == "0s":
                until(lambda: not cluster.run("squeue", "--noheader") and not client.runs.nodes(), "an empty cluster")
            start = time.perf_counter()
            run = client.launch(["echo", "first"])
            line = next(line for line in client.logs(run.id, follow=True) if line.text == "first")
            taken = time.perf_counter() - start
            assert line.text == "first"
            client.wait(run.id, check=True)
            if turn:
                values.append(taken)
        client.close()
    return Figure(values)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="nexus-slurm-") as name, slurmd.cluster(Path(name)) as cluster:
        plain = sbatch(cluster, Path(name))
        cold, warm = ours(cluster, idle="0s"), ours(cluster, idle="1h")
    lines = [
        "| submit to first log line | seconds |",
        "|---|---|",
        f"| sbatch, first line of its file | {plain} |",
        f"| Nexus, a machine started through Slurm | {cold} |",
        f"| Nexus, on an allocation that is there | {warm} |",
        "",
        f"On top of sbatch: {cold.median - plain.median:.2f} s",
    ]
    report("slurm_start", "\n".join(lines))


if __name__ == "__main__":
    main()
