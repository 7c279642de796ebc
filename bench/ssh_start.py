"""From submit to the first line of a job's log over ssh: on a host that has nothing of Nexus yet, and on a known one.
A real sshd on loopback; the server is reached through the port that ssh leads back, as from behind NAT.

    python -m bench.ssh_start
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from pathlib import Path

from tests.launch.providers.sshd import Sshd

from bench.house import new_house
from bench.peer import Figure, report


def once(client) -> float:
    start = time.perf_counter()
    run = client.launch(["echo", "first"])
    next(line for line in client.logs(run.id, follow=True) if line.text == "first")
    return time.perf_counter() - start


def on_one_host(folder: Path, warm: int) -> tuple[float, float, list[float]]:
    """A fleet of one new host: the first start with everything, one on a host that has Nexus, then warm ones."""
    from nexus.app.client import Client

    host = Sshd(folder / "host")
    host.start()
    with new_house() as made:
        try:
            made.up(agent=False)
            client = Client(made.url, made.http.token)
            file = folder / "hosts.yaml"
            file.write_text(json.dumps([host.entry("h1")]))
            made.run("fleet", "add", "ssh", "lab", str(file), "--trust-new-hosts")
            time.sleep(2)  # the server looks at the host once more by itself, which must not meet half a folder
            shutil.rmtree(host.folder)  # what looking at the host has brought there
            fresh = once(client)
            once(client)
            found = [once(client) for _ in range(warm)]
            made.run("fleet", "remove", "lab")
            while made.json("fleet"):
                time.sleep(0.1)
            made.run("fleet", "add", "ssh", "lab", str(file), "--trust-new-hosts")
            known = once(client)
        finally:
            host.die()
    return fresh, known, found


def main() -> None:
    os.chdir(tempfile.mkdtemp(prefix="nexus-bench-empty-"))
    fresh, known, warm = [], [], []
    for turn in range(3):
        with tempfile.TemporaryDirectory(prefix="nexus-bench-ssh-") as folder:
            one = on_one_host(Path(folder), 7)
        fresh.append(one[0])
        known.append(one[1])
        warm += one[2]
        print(f"turn {turn + 1}: fresh {one[0]:.2f} s, known {one[1]:.2f} s")
    lines = [
        "| submit to first log line, over ssh | seconds |",
        "|---|---|",
        f"| a fresh host: connect, bring Nexus, start the agent, join, run | {Figure(fresh)} |",
        f"| a host that has Nexus: start the agent, join, run | {Figure(known)} |",
        f"| a host whose agent is there | {Figure(warm)} |",
    ]
    report("ssh_start", "\n".join(lines))


if __name__ == "__main__":
    main()
