"""A small real server that speaks the agents' protocol over HTTP, and that can be made to misbehave."""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from nexus.agent.adapters.shim.formats import decode_spec
from nexus.kernel.errors import ConflictError, DeniedError, FencedError, NexusError, NotFoundError, UnavailableError
from nexus.kernel.logframes import LogLine, parse
from nexus.launch.model import TASK_LIFE
from nexus.launch.protocol import ArtifactReport, Desired, Join, Joined, NodeInfo, Offset, Report, TaskOrder, TaskReport

TOKEN = "node-token"


@dataclass
class Faults:
    """How often, in 0..1, an exchange goes wrong in each way."""

    rng: Random = field(default_factory=lambda: Random(1))
    drop: float = 0.0  # the connection is cut before the request is taken
    fail: float = 0.0  # answered with 500, not taken
    lose_ack: float = 0.0  # taken, and the connection is cut before the answer


class Server:
    """Keeps what agents send. Tests read and set its attributes."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.orders: dict[str, TaskOrder] = {}
        self.acknowledged: set[str] = set()
        self.reports: dict[str, TaskReport] = {}
        self.history: defaultdict[str, list[TaskReport]] = defaultdict(list)
        self.logs: defaultdict[str, bytearray] = defaultdict(bytearray)
        self.metrics: defaultdict[tuple[str, str], bytearray] = defaultdict(bytearray)
        self.artifacts: defaultdict[str, list[ArtifactReport]] = defaultdict(list)
        self.blobs: dict[str, bytes] = {}
        self.version = 1
        self.joined: Join | None = None
        self.told: NodeInfo | None = None
        self.heartbeat_s = 1.0
        self.token = TOKEN
        self.syncs = 0
        self.acknowledges = True
        self.url = ""
        self.blob_gate = asyncio.Event()  # closed: uploads hang
        self.blob_gate.set()
        self.blobs_waiting = 0
        self.blob_failures = 0  # so many requests for blobs fail first
        self._news = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._port = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def stop(self) -> None:
        """Go away, as a killed server does; `start` comes back on the same port."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    def want(self, *orders: TaskOrder) -> None:
        """Change what should be, and wake whoever polls."""
        for order in orders:
            self.orders[order.task] = order
        self._bump()

    def change(self, task: str, **changes: Any) -> None:
        self.want(replace(self.orders[task], **changes))

    def withdraw(self, task: str) -> None:
        del self.orders[task]
        self._bump()

    def lines(self, task: str) -> list[LogLine]:
        return [parse(line) for line in bytes(self.logs[task]).split(b"\n")[:-1]]

    def text(self, task: str, stream: str = "out") -> str:
        return "\n".join(line.text for line in self.lines(task) if line.stream == stream)

    def _bump(self) -> None:
        self.version += 1
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        first = (await reader.readline()).decode().split()
        if not first:
            return False
        headers = {}
        while line := (await reader.readline()).decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        method, target = first[0], first[1]
        rng, faults = self.faults.rng, self.faults
        if rng.random() < faults.drop:
            return False
        try:
            self._check(headers)
            status, answer = 200, await self._answer(method, target, body)
        except NexusError as error:
            status, answer = error.status, msgspec.json.encode(error.as_dict())
        if rng.random() < faults.lose_ack:
            return False
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(answer)}\r\n\r\n".encode()
        writer.write(head + (b"" if method == "HEAD" else answer))
        await writer.drain()
        return True

    def _check(self, headers: dict[str, str]) -> None:
        if self.faults.rng.random() < self.faults.fail:
            raise NexusError("made to fail")
        if headers.get("authorization") not in {f"Bearer {self.token}", "Bearer join-token"}:
            raise DeniedError("this token is not known, or was revoked")

    async def _answer(self, method: str, target: str, body: bytes) -> bytes:
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query))
        path = parts.path.strip("/").split("/")
        if path[:2] == ["v1", "blobs"]:
            self.blobs_waiting += method == "PUT"
            if method == "PUT":
                await self.blob_gate.wait()
            return self._blob(method, path[2], body)
        if path[2] == "join":
            self.joined = msgspec.json.decode(body, type=Join)
            return msgspec.json.encode(Joined(node="node_1", token=self.token))
        if path[2] == "sync":
            report = msgspec.json.decode(body, type=Report)
            self.told = report.info
            return msgspec.json.encode(await self._sync(report, int(query["since"]), float(query["wait"])))
        answers: dict[str, Callable[[str, dict[str, str], bytes], Awaitable[bytes]]] = {
            "logs": self._logs,
            "metrics": self._metrics,
            "artifacts": self._artifacts,
        }
        return await answers[path[4]](path[3], query, body)

    async def _sync(self, report: Report, since: int, wait_s: float) -> Desired:
        self.syncs += 1
        for one in report.tasks:
            self._observe(one)
        if since == self.version:
            try:
                async with asyncio.timeout(wait_s):
                    await self._news.wait()
            except TimeoutError:
                pass
        return Desired(
            version=self.version,
            heartbeat_s=self.heartbeat_s,
            orders=tuple(order for task, order in self.orders.items() if task not in self.acknowledged),
            acknowledged=tuple(self.acknowledged),
        )

    def _observe(self, one: TaskReport) -> None:
        before = self.reports.get(one.task)
        if before is not None and not TASK_LIFE.may(before.state, one.state):
            return  # a late message
        if before is None or (before.state, before.detail, before.healthy) != (one.state, one.detail, one.healthy):
            self.history[one.task].append(one)
        self.reports[one.task] = one
        is_whole = TASK_LIFE.is_final(one.state) and len(self.logs[one.task]) >= one.log_end
        if is_whole and self.acknowledges and one.task not in self.acknowledged:
            self.acknowledged.add(one.task)
            self._bump()

    def _owned(self, task: str, query: dict[str, str]) -> None:
        order = self.orders.get(task)
        if order is None or order.epoch != int(query["epoch"]):
            raise FencedError("the lease was given to somebody else")

    async def _logs(self, task: str, query: dict[str, str], body: bytes) -> bytes:
        self._owned(task, query)
        return _append(self.logs[task], int(query["offset"]), body)

    async def _metrics(self, task: str, query: dict[str, str], body: bytes) -> bytes:
        self._owned(task, query)
        return _append(self.metrics[task, query["stream"]], int(query["offset"]), body)

    async def _artifacts(self, task: str, query: dict[str, str], body: bytes) -> bytes:
        self._owned(task, query)
        report = msgspec.json.decode(body, type=ArtifactReport)
        if report.digest not in self.blobs:
            raise NotFoundError("no such blob")
        if report not in self.artifacts[task]:
            self.artifacts[task].append(report)
        return b"{}"

    def _blob(self, method: str, digest: str, body: bytes) -> bytes:
        if self.blob_failures > 0:
            self.blob_failures -= 1
            raise UnavailableError("the store does not answer")
        if method == "PUT":
            if hashlib.sha256(body).hexdigest() != digest:
                raise ConflictError("the content has another digest")
            self.blobs[digest] = body
            return b"{}"
        if digest not in self.blobs:
            raise NotFoundError("no such blob")
        return self.blobs[digest] if method == "GET" else b""

    def put(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        self.blobs[digest] = content
        return digest


def _append(stream: bytearray, offset: int, body: bytes) -> bytes:
    if offset > len(stream):
        raise ConflictError("bytes are missing", expected=len(stream))
    stream.extend(body[len(stream) - offset :])
    return msgspec.json.encode(Offset(len(stream)))


async def until(check: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Poll until `check` holds. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not check():  # noqa: ASYNC110 (what is looked at has no event of its own)
            await asyncio.sleep(0.005)


def is_final(server: Server, task: str) -> bool:
    """Whether the task has ended, and its whole log is here."""
    report = server.reports.get(task)
    return report is not None and TASK_LIFE.is_final(report.state) and len(server.logs[task]) >= report.log_end


__all__ = ["TOKEN", "Faults", "Server", "is_final", "until"]


async def entered(home: Path, elsewhere: Path) -> list[str]:
    """What a visitor of task_1 sees: its note, its WORD, `elsewhere` (or "no"), and how many of its processes sleep."""
    spec = decode_spec((home / "tasks" / "task_1.1" / "job" / "spec").read_bytes())
    look = f"""cat note; echo "$WORD"; cat {elsewhere} 2>/dev/null || echo no
cat /proc/[0-9]*/comm | grep -c sleep"""
    process = await asyncio.create_subprocess_exec(
        *spec["enter"],
        *("/bin/sh", "-c", look),
        env=dict(pair.split("=", 1) for pair in spec["env"]),
        cwd=spec["cwd"][0],
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    return output.decode().splitlines()
