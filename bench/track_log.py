"""What tracking costs: `nexus.log` calls, durable points a second here and over HTTP, log lines; trackio beside it.

    python -m bench.track_log

Every point is counted back where it was stored. CPU figures are of all processes that a way needs (job, shipper,
server), so a busy machine changes them little; wall figures are what the clock said.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.track.house import ALICE, build, owner
from tests.track.serve import ROOT, TASKS, Server, serving

from bench.peer import peer_python, report
from nexus.infra.http_client import HttpClient
from nexus.kernel.logframes import frame
from nexus.track.adapters.metrics_sql import open_metrics
from nexus.track.core.points import points
from nexus.track.faces.client import TrackClient
from nexus.track.frames import scan
from nexus.track.model import Batch

CALLS, KEYS = 20_000, 10
POINTS = CALLS * KEYS
ROUNDS = 3
LINES = 500_000
PIECE_B = 256 * 1024  # as the agent ships

LOOP = f"""
values = {{f"train/metric_{{i}}": 0.1 * i for i in range({KEYS})}}
begin, cpu, own = time.perf_counter(), time.process_time(), time.thread_time()
for i in range({CALLS}):
    values["train/metric_0"] = i * 0.001
    log(values)
accepted, own = time.perf_counter() - begin, time.thread_time() - own
finish()
print(json.dumps([own, accepted, time.perf_counter() - begin, time.process_time() - cpu]))
"""
OURS = "import json, time, nexus\nlog, finish = nexus.log, nexus.finish\n" + LOOP
THEIRS = (
    "import contextlib, io, json, time, trackio\n"
    "with contextlib.redirect_stdout(io.StringIO()): trackio.init(project='bench', name='run')\n"
    "def finish():\n    with contextlib.redirect_stdout(io.StringIO()): trackio.finish()\n"
    "log = trackio.log\n"
) + LOOP
CALL_TIME = f"""
import json, time, nexus
from time import perf_counter_ns as clock
values = {{f"train/metric_{{i}}": 0.1 * i for i in range({KEYS})}}
spent = []
for i in range({CALLS}):
    start = clock()
    nexus.log(values)
    spent.append(clock() - start)
empty = []
for i in range({CALLS}):
    start = clock()
    empty.append(clock() - start)
spent.sort(); empty.sort()
print(json.dumps([spent[len(spent) // 2] - empty[len(empty) // 2], spent[len(spent) * 99 // 100], spent[-1]]))
"""


@dataclass(frozen=True)
class Cost:
    """Of storing all points once, in seconds.

    `own`: CPU of the thread that calls `log`; `accepted`: until the last call returned; `wall`, `cpu`: of everything.
    """

    own: float
    accepted: float
    wall: float
    cpu: float


def job(python: str | Path, code: str, **environment: str) -> list[float]:
    """Run a script that prints a JSON list last."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment}
    done = subprocess.run([str(python), "-c", code], env=environment, capture_output=True, text=True, check=True)
    return [float(number) for number in json.loads(done.stdout.strip().splitlines()[-1])]


def local(folder: Path) -> Cost:
    """Job -> spool file -> this process's store."""
    spool = folder / "spool"
    spool.mkdir()
    own, accepted, wall, cpu = job(sys.executable, OURS, NEXUS_SPOOL=str(spool))
    begin, begin_cpu = time.perf_counter(), time.process_time()

    async def ingest() -> int:
        house, who = build(folder), owner()
        for path in spool.glob("m-*.bin"):
            data, sent = path.read_bytes(), 0
            while sent < len(data):
                sent = await house.track.metrics.append(who, path.name, sent, data[sent : sent + PIECE_B])
        count = sum(series.n for series in (await house.track.metrics.summary(ALICE, who.run)).series)
        house.close()
        return count

    assert asyncio.run(ingest()) == POINTS
    return Cost(own, accepted, wall + time.perf_counter() - begin, cpu + time.process_time() - begin_cpu)


def ship(server: Server, what: str, data: bytes, more: str = "") -> None:
    """Send a stream in pieces over one connection, from where the server says that it is."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port))
    sent = 0
    while sent < len(data):
        path = f"/v1/agent/tasks/{TASKS[2]}/{what}?epoch=1&offset={sent}{more}"
        connection.request("POST", path, data[sent : sent + PIECE_B], {"authorization": "Bearer node"})
        sent = int(json.loads(connection.getresponse().read())["offset"])
    connection.close()


def over_http(folder: Path) -> Cost:
    """Job -> spool file -> HTTP -> the real router in a server process."""
    spool = folder / "spool"
    spool.mkdir()
    with serving(folder) as server:
        own, accepted, wall, cpu = job(sys.executable, OURS, NEXUS_SPOOL=str(spool))
        begin, begin_cpu, server_cpu = time.perf_counter(), time.process_time(), server.cpu_s
        for path in spool.glob("m-*.bin"):
            ship(server, "metrics", path.read_bytes(), f"&stream={path.name}")
        wall += time.perf_counter() - begin
        cpu += time.process_time() - begin_cpu + server.cpu_s - server_cpu
        counted = sum(series.n for series in TrackClient(HttpClient(server.url, "alice")).metrics("run_1").series)
        assert counted == POINTS, counted
    return Cost(own, accepted, wall, cpu)


def trackio(python: Path) -> Callable[[Path], Cost]:
    """Job -> trackio's own local database."""
    count = (
        "import glob, json, sqlite3, sys\n"
        "db = sqlite3.connect(glob.glob(sys.argv[1] + '/*.db')[0])\n"
        "print(json.dumps([db.execute('select count(*) from metrics').fetchone()[0]]))"
    )

    def measure(folder: Path) -> Cost:
        cost = Cost(*job(python, THEIRS, TRACKIO_DIR=str(folder)))
        done = subprocess.run([str(python), "-c", count, str(folder)], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == [CALLS], done.stdout
        return cost

    return measure


def log_lines(folder: Path) -> tuple[float, float, float, float]:
    """Wall and CPU seconds for LINES lines of about 100 bytes: into the store, and over HTTP."""
    text = b"step 1234 loss 0.123456 accuracy 0.98765 lr 0.001 grad_norm 1.2345 tokens/s 12345.6 gpu"
    data = b"".join(frame(1_700_000_000_000 + i, "out", text) for i in range(LINES))

    async def store() -> int:
        house, who, end = build(folder), owner(), 0
        while end < len(data):
            end = await house.track.logs.append(who, end, data[end : end + PIECE_B])
        lines = await house.logs.lines(who.task)
        house.close()
        return lines

    begin, cpu = time.perf_counter(), time.process_time()
    assert asyncio.run(store()) == LINES
    wall_here, cpu_here = time.perf_counter() - begin, time.process_time() - cpu
    with serving(folder / "http") as server:
        begin, cpu, server_cpu = time.perf_counter(), time.process_time(), server.cpu_s
        ship(server, "logs", data)
        return (
            wall_here,
            cpu_here,
            time.perf_counter() - begin,
            time.process_time() - cpu + server.cpu_s - server_cpu,
        )


def chart(folder: Path) -> tuple[float, float]:
    """Milliseconds (wall) to draw 1,000,000 points as 1,500, and the CPU seconds that storing them took."""

    async def measure() -> tuple[float, float]:
        store, who = open_metrics(f"sqlite:///{folder / 'chart.db'}"), owner()
        cpu = time.process_time()
        for start in range(0, 1_000_000, 50_000):
            steps = range(start, start + 50_000)
            some = points(steps, map(float, steps), (math.sin(step / 1000) for step in steps))
            await store.append(Batch(owner=who, stream="m", start=start, end=start + 50_000, points={"loss": some}))
        stored = time.process_time() - cpu
        (series,) = await store.series([who.run])
        spent = []
        for _ in range(7):
            begin = time.perf_counter()
            assert len(await store.chart(series.id, 1500)) > 1000
            spent.append(1000 * (time.perf_counter() - begin))
        store.close()
        return statistics.median(spent), stored

    return asyncio.run(measure())


def frame_rate() -> float:
    """Points a CPU second that `scan` reads."""
    from nexus.track.frames import write_points

    data = b"".join(write_points([f"k{i}" for i in range(10)], range(100_000), [0.0] * 100_000, [[1.0] * 100_000] * 10))
    begin = time.process_time()
    assert scan(data).consumed == len(data)
    return 1_000_000 / (time.process_time() - begin)


def in_new_folder(work: Callable[[Path], Cost]) -> Cost:
    folder = Path(tempfile.mkdtemp(prefix="nexus-bench-"))
    try:
        return work(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def row(name: str, costs: list[Cost]) -> str:
    """One way as a line of the table: medians."""
    own, accepted, wall, cpu = (
        statistics.median(getattr(cost, field) for cost in costs) for field in ("own", "accepted", "wall", "cpu")
    )
    rates = (POINTS / accepted, POINTS / wall, POINTS / cpu)
    return f"| {name} | {1e6 * own / CALLS:.2f} µs | " + " | ".join(f"{rate / 1000:,.0f} k" for rate in rates) + " |"


def main() -> None:
    """Measure everything in turns, print, and keep it."""
    python = peer_python("trackio", "trackio")
    ways: dict[str, Callable[[Path], Cost]] = {"nexus, local": local, "nexus, over HTTP": over_http}
    if python is not None:
        ways["trackio, local"] = trackio(python)
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, work in ways.items():
            costs[name].append(in_new_folder(work))
    folder = Path(tempfile.mkdtemp(prefix="nexus-bench-"))
    (folder / "spool").mkdir()
    calls = [job(sys.executable, CALL_TIME, NEXUS_SPOOL=str(folder / "spool")) for _ in range(ROUNDS)]
    p50, p99 = (statistics.median(call[i] for call in calls) / 1000 for i in (0, 1))
    (folder / "http").mkdir()
    wall, cpu, wall_http, cpu_http = log_lines(folder)
    chart_ms, chart_cpu = chart(folder)
    shutil.rmtree(folder, ignore_errors=True)

    lines = [
        "## Tracking: `nexus.log`, durable points, log lines",
        "",
        f"`python -m bench.track_log`: {CALLS:,} calls of `log` with {KEYS} keys each, medians of {ROUNDS} rounds.",
        f"{os.cpu_count()} CPUs, load average {os.getloadavg()[0]:.1f} at the end; points counted back in every store.",
        "",
        "| | CPU of a call | accepted points/s | durable points/s | durable points per CPU-second |",
        "|---|---|---|---|---|",
        *(row(name, costs[name]) for name in ways),
        "",
    ]
    if python is not None:
        for name in ("nexus, local", "nexus, over HTTP"):
            by_wall, by_cpu = (
                statistics.median(getattr(cost, field) for cost in costs["trackio, local"])
                / statistics.median(getattr(cost, field) for cost in costs[name])
                for field in ("wall", "cpu")
            )
            lines.append(
                f"- {name} against trackio, local: {by_wall:.1f}x durable points/s, {by_cpu:.1f}x per CPU-second"
            )
    lines += [
        f"- one `nexus.log` call with {KEYS} keys: p50 {p50:.2f} µs, p99 {p99:.2f} µs",
        f"- log lines (about 100 bytes) into the store: {LINES / wall:,.0f} lines/s, {LINES / cpu:,.0f} per CPU-second",
        f"- log lines over HTTP: {LINES / wall_http:,.0f} lines/s, {LINES / cpu_http:,.0f} per CPU-second (both sides)",
        f"- 1,000,000 points of a series: stored with {chart_cpu:.2f} CPU-s, 1,500 of them drawn in {chart_ms:.1f} ms",
        f"- frames of 10 keys are read at {frame_rate() / 1e6:.0f} M points per CPU-second",
        "",
        '"Durable": committed on SQLite with WAL and synchronous=NORMAL, trackio\'s level too: survives `kill -9`.',
    ]
    report("track", "\n".join(lines))


if __name__ == "__main__":
    main()
