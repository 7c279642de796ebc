"""Ten thousand agents on one server process: what their heartbeats cost, and how late the answers are.

The agents are coroutines in a second process. Each holds a connection of its own and speaks the protocol as the real
agent does: a long poll of one heartbeat after the other. What is measured is the server: CPU, memory, and how much
later than asked for an answer comes.

    python -m bench.agents_10k [agents] [seconds]
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.house import cpu_s, memory_mb, new_house
from bench.peer import report

HEARTBEAT_S = 10.0


# --------------------------------------------------------------------------- the agents' process


class Agent(asyncio.Protocol):
    """One agent: sync after sync on one connection."""

    def __init__(self, drive: Drive, token: str, name: str, delay_s: float) -> None:
        self.drive, self.delay_s = drive, delay_s
        info = {"name": name, "boot": f"boot-{name}", "capacity": {"cpu": 8.0, "memory_b": 2**35, "disk_b": 2**40}}
        self.report: dict[str, Any] = {"info": info, "tasks": [], "protocol": 1}
        self.body = json.dumps(self.report).encode()
        self.head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        self.version, self.wait_s, self.sent, self.buffer = 0, 0.0, 0.0, b""
        self.first = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # uvloop's own kind
        asyncio.get_running_loop().call_later(self.delay_s, self.sync)

    def sync(self) -> None:
        line = f"POST /v1/agent/sync?since={self.version}&wait={self.wait_s:g} HTTP/1.1\r\n"
        head = f"{line}{self.head}Content-Length: {len(self.body)}\r\n\r\n"
        self.sent = time.perf_counter()
        self.transport.write(head.encode() + self.body)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, gap, body = self.buffer.partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]) if gap else 0
        if not gap or len(body) < length:
            return
        self.buffer = b""
        if not head.startswith(b"HTTP/1.1 200"):
            sys.exit(f"an agent was refused: {body.decode()}")
        self.told(json.loads(body))

    def told(self, desired: dict[str, Any]) -> None:
        late_s = time.perf_counter() - self.sent - self.wait_s
        self.drive.heard(late_s, first=self.first)
        self.version, self.wait_s, self.first = desired["version"], HEARTBEAT_S, False
        self.sync()

    def connection_lost(self, exc: Exception | None) -> None:
        self.drive.lost += not self.drive.over


class Drive:
    """All agents, and what they have seen."""

    def __init__(self) -> None:
        self.late: list[float] = []
        self.joined = self.lost = 0
        self.over = False
        self.expected = 0
        self.all_joined = asyncio.Event()

    def heard(self, late_s: float, *, first: bool) -> None:
        self.joined += first
        if self.joined == self.expected:
            self.all_joined.set()
        if not first:
            self.late.append(late_s)

    async def run(self, port: int, tokens: list[str], seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self.expected = len(tokens)
        for number, token in enumerate(tokens):
            delay_s = HEARTBEAT_S * number / len(tokens)
            await loop.create_connection(
                lambda t=token, n=number, d=delay_s: Agent(self, t, f"n{n}", d), "127.0.0.1", port
            )  # type: ignore[misc]
        print("connected", flush=True)
        await self.all_joined.wait()
        await asyncio.sleep(HEARTBEAT_S)
        self.late.clear()
        print("steady", flush=True)
        await asyncio.sleep(seconds)
        self.over = True
        late = sorted(self.late)
        numbers = {"syncs": len(late), "lost": self.lost} | {
            f"p{at}": late[min(len(late) - 1, int(len(late) * at / 100))] for at in (50, 99)
        }
        print(json.dumps(numbers), flush=True)


# --------------------------------------------------------------------------- the measurement


async def populate(home: Path, agents: int) -> list[str]:
    """Nodes that have joined, each with its token, as a server would have stored them."""
    from nexus.access.model import Purpose
    from nexus.app.home import Home
    from nexus.app.settings import load_settings
    from nexus.app.wire import open_services
    from nexus.launch.model import NODES, Node

    Home(home).prepare()
    services = await open_services(load_settings({}, home=home))
    now = time.time()

    async def join(number: int) -> str:
        node = Node(id=f"node_{number:013x}", project="default", created=now, name=f"n{number}", boot=f"boot-n{number}")
        await services.records.apply((NODES, node))
        return (await services.access.create(purpose=Purpose.NODE, subject=node.id, project="default")).secret

    tokens = list(await asyncio.gather(*(join(number) for number in range(agents))))
    await services.close()
    return tokens


def measure(agents: int, seconds: float) -> dict[str, float]:
    with new_house(NEXUS_HEARTBEAT=f"{HEARTBEAT_S:g}") as made:
        tokens = asyncio.run(populate(made.home, agents))
        made.up(agent=False)
        assert made.server
        pid = made.server.pid
        idle = memory_mb(pid)
        drive = subprocess.Popen(
            [sys.executable, "-m", "bench.agents_10k", "--drive", str(made.port), str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert drive.stdin
        assert drive.stdout
        drive.stdin.write(json.dumps(tokens))
        drive.stdin.close()
        begun, joining = time.perf_counter(), cpu_s(pid)
        for line in drive.stdout:
            if line.strip() == "steady":
                joined_s, joining = time.perf_counter() - begun, cpu_s(pid) - joining
                before, start = cpu_s(pid), time.perf_counter()
            elif line.startswith("{"):
                used, taken = cpu_s(pid) - before, time.perf_counter() - start
                seen = json.loads(line)
                rss = memory_mb(pid)
        drive.wait(30)
        return seen | {
            "cpu": used / taken * 100,
            "us": used / seen["syncs"] * 1e6,
            "rss": rss,
            "idle": idle,
            "joined_s": joined_s,
            "joining_cpu_s": joining,
        }


def main() -> None:
    with suppress(ValueError):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if sys.argv[1:2] == ["--drive"]:
        import uvloop

        tokens = json.loads(sys.stdin.read())
        uvloop.run(Drive().run(int(sys.argv[2]), tokens, float(sys.argv[3])))
        return
    agents = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    found = measure(agents, float(sys.argv[2]) if len(sys.argv) > 2 else 30.0)
    lines = [
        f"| one server process, {agents:,} agents, a heartbeat of {HEARTBEAT_S:.0f} s each | |",
        "|---|---|",
        f"| CPU of the server, % of a core | {found['cpu']:.1f} |",
        f"| CPU of one heartbeat, µs | {found['us']:.0f} |",
        f"| resident memory before and with them, MB | {found['idle']:.0f}, {found['rss']:.0f} |",
        f"| an answer is late by, median and p99, ms | {found['p50'] * 1000:.1f}, {found['p99'] * 1000:.1f} |",
        f"| heartbeats counted; connections lost | {found['syncs']:.0f}; {found['lost']:.0f} |",
    ]
    report("agents_10k", "\n".join(lines))


if __name__ == "__main__":
    main()
