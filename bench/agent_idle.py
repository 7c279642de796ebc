"""What an agent costs while nothing happens: resident memory, and CPU at a 10 s heartbeat.

python -m bench.agent_idle [seconds]
"""

from __future__ import annotations

import sys
import time

from bench.house import cpu_s, house, memory_mb
from bench.peer import report


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    with house(NEXUS_HEARTBEAT="10") as made:
        agent = made.agent_pid()
        assert made.server
        server = made.server.pid
        made.run("nodes")
        time.sleep(5)  # joined, probed, quiet
        before = cpu_s(agent), cpu_s(server)
        time.sleep(seconds)
        after = cpu_s(agent), cpu_s(server)
        lines = [
            "| process | resident MB | CPU % of a core, idle |",
            "|---|---|---|",
            f"| agent | {memory_mb(agent):.1f} | {(after[0] - before[0]) / seconds * 100:.2f} |",
            f"| server, all loops | {memory_mb(server):.1f} | {(after[1] - before[1]) / seconds * 100:.2f} |",
        ]
    report("agent_idle", "\n".join(lines))


if __name__ == "__main__":
    main()
