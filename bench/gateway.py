"""The gateway beside nginx and LiteLLM: requests a second on one core, added latency, CPU time a request.

    python -m bench.gateway [--seconds 3] [--rounds 3] [--without-litellm]

The proxy under test has core 0 to itself; wrk and the backend (nginx that answers 330 bytes at once) share core 1. All
ways are measured in turns, so that a busy machine is busy for all of them: the ratios count, not the figures. Ours does
what it does in production: key, JSON, routing by model, least outstanding of 4 replicas, limits, deadlines, counters.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.peer import peer_python, report

KEY = "sk-nexus-bench-key-0123456789"
ANSWER = (
    '{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"bench","choices":[{"index":0,'
    '"message":{"role":"assistant","content":"' + "hello " * 12 + '"},"finish_reason":"stop"}],'
    '"usage":{"prompt_tokens":20,"completion_tokens":12,"total_tokens":32}}'
)
BODY = (
    '{"model": "bench", "messages": [{"role": "system", "content": "You are a helpful assistant."}, '
    '{"role": "user", "content": "Say hello to everybody, and then say it again."}], "max_tokens": 12}'
)
PATH = "/v1/chat/completions"
PROXY_CORE, LOAD_CORE = 0, 1
REPLICAS = 4


@dataclass
class Way:
    """One thing to measure, and what came out."""

    name: str
    url: str
    process: subprocess.Popen[bytes] | None = None
    longer: int = 1  # times the others' seconds, for a way that answers few requests in them
    rates: list[float] = field(default_factory=list)  # requests/s with 64 connections
    cpu_us: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    alone_ms: list[float] = field(default_factory=list)  # median with 1 connection


def main() -> None:
    """Measure, and write bench/results/gateway.md."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-litellm", action="store_true")
    parser.add_argument("--serve", nargs=2, type=int, metavar=("PORT", "BACKEND"), help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.serve:
        serve(*told.serve)
        return
    for program in ("nginx", "wrk"):
        if shutil.which(program) is None:
            sys.exit(f"{program} is not installed: apt-get install nginx wrk")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        home = Path(folder)
        ways = list(start(stack, home, with_litellm=not told.without_litellm))
        for _ in range(told.rounds):
            for way in ways:
                measure(way, home, told.seconds)
        report("gateway", table(ways, told))


# --------------------------------------------------------------------------- what is measured


def start(stack: contextlib.ExitStack, home: Path, *, with_litellm: bool) -> Iterator[Way]:
    backend = free_port()
    stack.enter_context(running(nginx(home, "backend", backend_conf(backend)), LOAD_CORE, backend))
    yield Way("direct to the backend", f"http://127.0.0.1:{backend}")
    port = free_port()
    process = stack.enter_context(running(nginx(home, "proxy", proxy_conf(port, backend)), PROXY_CORE, port))
    yield Way("nginx", f"http://127.0.0.1:{port}", process)
    port = free_port()
    command = [sys.executable, "-m", "bench.gateway", "--serve", str(port), str(backend)]
    process = stack.enter_context(running(command, PROXY_CORE, port))
    yield Way("Nexus gateway", f"http://127.0.0.1:{port}", process)
    python = peer_python("litellm", "litellm[proxy]==1.106.2") if with_litellm else None
    if python is not None:
        port = free_port()
        config = home / "litellm.yaml"
        config.write_text(
            f"model_list:\n  - model_name: bench\n    litellm_params:\n      model: openai/bench\n"
            f"      api_base: http://127.0.0.1:{backend}/v1\n      api_key: none\n"
            f"general_settings:\n  master_key: {KEY}\n"
        )
        command = [str(python.parent / "litellm"), "--config", str(config), "--port", str(port), "--host", "127.0.0.1"]
        process = stack.enter_context(running(command, PROXY_CORE, port, patience_s=240))
        yield Way("LiteLLM 1.106.2", f"http://127.0.0.1:{port}", process, longer=5)


def serve(port: int, backend: int) -> None:
    """Our gateway as it is, with a key and four replicas, in this process."""
    import uvloop

    from nexus.deploy.adapters.gateway.server import Gateway
    from nexus.deploy.model import Limits, Replica, Route, Routes
    from nexus.kernel.identity import Principal, PrincipalKind

    async def authenticate(key: str) -> Principal | None:
        return Principal(PrincipalKind.USER, "bench", "bench") if key == KEY else None

    async def forever() -> None:
        gateway = Gateway(authenticate)
        await gateway.start(port=port)
        replicas = tuple(Replica(f"r{i}", "127.0.0.1", backend) for i in range(REPLICAS))
        limits = Limits(inflight=1000)
        gateway.follow(
            Routes(1, (Route(project="bench", endpoint="bench", replicas=replicas, openai=True, limits=limits),))
        )
        await asyncio.Event().wait()

    uvloop.run(forever())


def nginx(home: Path, name: str, http: str) -> list[str]:
    conf = home / f"{name}.conf"
    paths = "".join(
        f"{kind}_temp_path {home}/{name}-{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    conf.write_text(
        f"daemon off; worker_processes 1; master_process off; pid {home}/{name}.pid; error_log {home}/{name}.log;\n"
        "events { worker_connections 4096; }\nhttp { access_log off; keepalive_requests 1000000000;\n"
        f"{paths}{http} }}\n"
    )
    return ["nginx", "-p", str(home), "-c", str(conf)]


def backend_conf(port: int) -> str:
    return (
        f"server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ default_type application/json; "
        f"return 200 '{ANSWER}'; }} }}"
    )


def proxy_conf(port: int, backend: int) -> str:
    return (
        f"upstream back {{ server 127.0.0.1:{backend}; keepalive 256; keepalive_requests 1000000000; }}\n"
        f"server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_pass http://back; "
        f'proxy_http_version 1.1; proxy_set_header Connection ""; }} }}'
    )


# --------------------------------------------------------------------------- how


@contextlib.contextmanager
def running(command: list[str], core: int, port: int, patience_s: float = 20) -> Iterator[subprocess.Popen[bytes]]:
    """The process, pinned to a core, from when its port answers."""
    root = Path(__file__).parent.parent
    process = subprocess.Popen(
        ["taskset", "-c", str(core), *command], cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + patience_s
        while not answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"did not start: {' '.join(command)}")
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def measure(way: Way, home: Path, seconds: int) -> None:
    """One turn: many connections, then one alone."""
    check(way)
    seconds *= way.longer
    wrk(way, home, 64, way.longer)
    before = cpu_s(way)
    found = wrk(way, home, 64, seconds)
    spent = cpu_s(way) - before
    way.rates.append(found["rate"])
    way.p99_ms.append(found["p99"])
    if way.process is not None and found["count"]:
        way.cpu_us.append(spent / found["count"] * 1e6)
    way.alone_ms.append(wrk(way, home, 1, seconds)["p50"])


def check(way: Way) -> None:
    """The right answer, before it is counted."""
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    request = urllib.request.Request(way.url + PATH, BODY.encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert b"hello hello" in answer.read(), way.name


def wrk(way: Way, home: Path, connections: int, seconds: int) -> dict[str, float]:
    script = home / "post.lua"
    script.write_text(
        f"wrk.method = 'POST'\nwrk.body = [[{BODY}]]\nwrk.headers['Content-Type'] = 'application/json'\n"
        f"wrk.headers['Authorization'] = 'Bearer {KEY}'\n"
    )
    command = ["taskset", "-c", str(LOAD_CORE), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    done = subprocess.run([*command, "-s", str(script), way.url + PATH], capture_output=True, text=True, check=True)
    if "Non-2xx" in done.stdout:
        raise SystemExit(f"{way.name} refused requests:\n{done.stdout}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    count = re.search(r"(\d+) requests in", done.stdout)
    assert rate, done.stdout
    assert count, done.stdout
    return {
        "rate": float(rate[1]),
        "count": float(count[1]),
        "p50": percentile(done.stdout, 50),
        "p99": percentile(done.stdout, 99),
    }


def percentile(text: str, rank: int) -> float:
    """Milliseconds."""
    found = re.search(rf"{rank}%\s+([\d.]+)(us|ms|s)", text)
    assert found, text
    return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[found[2]]


def cpu_s(way: Way) -> float:
    """CPU time of the proxy's whole process tree until now."""
    if way.process is None:
        return 0.0
    wanted, total = {way.process.pid}, 0.0
    for _ in range(4):  # generations
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError):
                    fields = (folder / "stat").read_text().rpartition(")")[2].split()
                    if int(fields[1]) in wanted:
                        wanted.add(int(folder.name))
    for pid in wanted:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def table(ways: list[Way], told: argparse.Namespace) -> str:
    direct = statistics.median(ways[0].alone_ms)
    nginx_rate = statistics.median(ways[1].rates)
    how = (
        f"`python -m bench.gateway --seconds {told.seconds} --rounds {told.rounds}`, load average "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores. Medians of the rounds; "
        "the proxy on core 0, wrk and the backend on core 1."
    )
    lines = [
        "# Gateway",
        "",
        how,
        "",
        "| way | requests/s, 64 connections | of nginx | p99 ms | CPU µs a request | added median ms, 1 connection |",
        "|---|---|---|---|---|---|",
    ]
    for way in ways:
        rate = statistics.median(way.rates)
        cpu = f"{statistics.median(way.cpu_us):.1f}" if way.cpu_us else "-"
        added = statistics.median(way.alone_ms) - direct
        lines.append(
            f"| {way.name} | {rate:,.0f} | {rate / nginx_rate:.2f} | {statistics.median(way.p99_ms):.1f} | {cpu} "
            f"| {added:.3f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
