"""What a server costs before anybody uses it: how soon it answers, its memory, and its CPU while nothing happens.

python -m bench.server_idle [seconds]
"""

from __future__ import annotations

import sys
import time

from bench.house import cpu_s, memory_mb, new_house
from bench.peer import Figure, report

_STARTS = 5


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    fresh, again = [], []
    for _ in range(_STARTS):
        with new_house() as made:
            for figures in (fresh, again):
                start = time.perf_counter()
                made.up(agent=False)
                figures.append(time.perf_counter() - start)
                made.kill_server()
    with new_house(NEXUS_HEARTBEAT="10") as made:
        made.up(agent=False)
        assert made.server
        pid = made.server.pid
        time.sleep(3)
        before = cpu_s(pid)
        time.sleep(seconds)
        cpu, memory = (cpu_s(pid) - before) / seconds * 100, memory_mb(pid)
        for command in (["runs"], ["nodes"], ["--json", "runs"]):
            made.run(*command)
        used = memory_mb(pid)
    lines = [
        "| a server without an agent | |",
        "|---|---|",
        f"| from its start to its first answer, new home, s | {Figure(fresh)} |",
        f"| the same, again, s | {Figure(again)} |",
        f"| resident memory after the start, after some commands, MB | {memory:.0f}, {used:.0f} |",
        f"| CPU while nothing happens, % of a core | {cpu:.2f} |",
    ]
    report("server_idle", "\n".join(lines))


if __name__ == "__main__":
    main()
