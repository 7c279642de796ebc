"""From submit to the first line of the job's log, on a warm agent, beside Ray Jobs on a warm cluster.

Both are asked through their own Python client, from a process that is already running; the clock starts before the
submission and stops when the client has the job's first line.

    python -m bench.launch_start
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from bench.house import house
from bench.peer import Figure, peer_python, report

_RAY = """
import sys, time
from ray.job_submission import JobSubmissionClient
client = JobSubmissionClient(sys.argv[1])
def once():
    start = time.perf_counter()
    job = client.submit_job(entrypoint="echo first")
    while "first" not in client.get_job_logs(job):
        time.sleep(0.005)
    return time.perf_counter() - start
once()
print(*[once() for _ in range(5)])
"""


def ours(repeat: int = 21) -> Figure:
    from nexus.app.client import Client

    values = []
    os.chdir(tempfile.mkdtemp(prefix="nexus-bench-empty-"))  # an empty workspace, as Ray's job has none
    with house() as made:
        client = Client(made.url, made.http.token)
        for turn in range(repeat + 1):
            start = time.perf_counter()
            run = client.launch(["echo", "first"])
            line = next(line for line in client.logs(run.id, follow=True) if line.text == "first")
            taken = time.perf_counter() - start
            assert line.text == "first"
            if turn:
                values.append(taken)
    return Figure(values)


def ray() -> Figure | None:
    python = peer_python("ray", "ray[default]==2.60.0")
    if python is None:
        return None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        dashboard = probe.getsockname()[1]
    temporary = tempfile.mkdtemp(prefix="ray")
    command = [
        str(python.parent / "ray"), "start", "--head", "--block", "--node-ip-address", "127.0.0.1", "--port", "6399",
        "--dashboard-host", "127.0.0.1", "--dashboard-port", str(dashboard), "--temp-dir", temporary, "--num-cpus", "2",
        "--disable-usage-stats",
    ]  # fmt: skip
    with Path(temporary, "head.log").open("wb") as log:
        head = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{dashboard}"
        for _ in range(60):
            done = subprocess.run([str(python), "-c", _RAY, address], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return Figure([float(word) for word in done.stdout.split()])
            time.sleep(1)
        print(done.stderr[-2000:])
        return None
    finally:
        subprocess.run(["pkill", "-TERM", "-s", str(head.pid)], check=False)
        time.sleep(3)
        subprocess.run(["pkill", "-KILL", "-s", str(head.pid)], check=False)
        head.wait(30)


def main() -> None:
    mine, theirs = ours(), ray()
    lines = ["| submit to first log line, warm | seconds |", "|---|---|", f"| Nexus | {mine} |"]
    if theirs:
        lines += [f"| Ray Jobs 2.60 | {theirs} |", "", f"Ratio Ray / Nexus: {theirs.median / mine.median:.1f}"]
    report("launch_start", "\n".join(lines))


if __name__ == "__main__":
    main()
