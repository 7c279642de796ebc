"""Tracking through its routes: a real server process, the typed client, the commands, and `kill -9`."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
from click.testing import CliRunner

from nexus.infra.package import pack
from nexus.infra.shell import Shell
from nexus.kernel.errors import (
    ConflictError,
    DeniedError,
    FencedError,
    ForbiddenError,
    LimitError,
    NotFoundError,
    UsageError,
)
from nexus.kernel.logframes import frame
from nexus.track.faces.bodies import NewVersion, Offset
from nexus.track.faces.client import TrackClient
from nexus.track.faces.commands import artifacts, logs, metrics, models
from nexus.track.faces.ingest import PIECE_MAX_B
from tests.track.house import piece, wait_for
from tests.track.serve import TASKS, Server, serving

T0, T1 = TASKS[:2]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as started:
        yield started


class Node:
    """What an agent does: send from where the server is, and again when it is not sure."""

    def __init__(self, server: Server) -> None:
        self.http = server.connect("node")

    def send(self, task: str, what: str, data: bytes, *, offset: int = 0, epoch: int = 1, **more: str) -> int:
        path = f"/v1/agent/tasks/{task}/{what}"
        params = {"epoch": epoch, "offset": offset, **more}
        answer = self.http.request("POST", path, params=params, content=data)
        return int(answer.json()["offset"])

    def report(self, task: str, **report: Any) -> None:
        self.http.post(f"/v1/agent/tasks/{task}/artifacts", dict[str, Any], report, epoch=1)


def client(server: Server, who: str = "alice") -> TrackClient:
    return TrackClient(server.connect(who))


def lines(count: int, first: int = 0) -> bytes:
    return b"".join(frame(1_700_000_000_000 + i, "out", b"line %d" % i) for i in range(first, first + count))


def call(server: Server, command: click.Command, *arguments: str, as_json: bool = False) -> str:
    shell = Shell(connect=lambda: server.connect("alice"), json=as_json)
    done = CliRunner().invoke(command, arguments, obj=shell, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_everything_an_agent_sends_comes_back(server: Server, tmp_path: Path) -> None:
    node, alice = Node(server), client(server)
    end = node.send(T0, "logs", lines(1500))
    assert node.send(T0, "logs", lines(1500)) == end
    with pytest.raises(ConflictError) as caught:
        node.send(T0, "logs", b"x", offset=end + 1)
    assert caught.value.details["expected"] == end
    assert [line.text for line in alice.lines("digits")] == [f"line {i}" for i in range(1500)]
    assert [line.text for line in alice.lines("digits", tail=2)] == ["line 1498", "line 1499"]
    assert [line.text for line in alice.search("digits", "line 77")] == ["line 77", *(f"line 77{i}" for i in range(10))]

    data = piece(range(3), **{"train/loss": [1.0, float("nan"), float("inf")]})
    assert node.send(T0, "metrics", data + data[:20], stream="m-1.bin") == len(data)
    (series,) = alice.metrics("digits").series
    assert (series.key, series.n, series.value, series.low, series.high) == ("train/loss", 3, float("inf"), 1.0, 1.0)
    (curve,) = alice.chart("digits", "train/loss")
    assert str(list(curve.points.values)) == "[1.0, nan, inf]"

    (tmp_path / "w.bin").write_bytes(b"weights" * 100_000)
    seen: list[tuple[int, int]] = []
    digest = TrackClient(node.http).upload_blob(tmp_path / "w.bin", progress=lambda *at: seen.append(at))
    assert seen[-1] == (700_000, 700_000)
    node.report(T0, name="digits", digest=digest, size_b=700_000, path="out/w.bin", kind="model")
    version = alice.version("digits")
    assert (version.number, version.digest, version.run, version.metrics) == (1, digest, "run_1", {})
    assert alice.register("digits", NewVersion(digest=digest, run="digits", metrics={"acc": 0.9})).number == 2
    assert alice.set_alias("digits", "production", 1).aliases == {"production": 1}
    assert alice.version("digits", "production").number == 1
    assert alice.download(digest, tmp_path / "back.bin").read_bytes() == (tmp_path / "w.bin").read_bytes()
    artifact = alice.artifact("digits", "digits")
    content = alice._http.request("GET", f"/v1/artifacts/{artifact.id}/content", headers={"range": "bytes=699995-"})
    assert (content.status_code, content.content) == (206, b"ights")
    assert content.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in content.headers["content-security-policy"]


def test_who_is_refused(server: Server) -> None:
    node, alice, bob, vera = Node(server), client(server), client(server, "bob"), client(server, "vera")
    node.send(T0, "logs", lines(1))
    digest = alice.upload_blob(b"weights")
    with pytest.raises(NotFoundError):
        bob.logs("run_1")
    with pytest.raises(NotFoundError):
        next(bob.follow("run_1"))
    assert not bob.has_blob(digest)
    with pytest.raises(NotFoundError):
        bob.register("mine", NewVersion(digest=digest))
    with pytest.raises(ForbiddenError):
        vera.upload_blob(b"other")
    with pytest.raises(ForbiddenError):
        alice._http.request("POST", f"/v1/agent/tasks/{T0}/logs", params={"epoch": 1, "offset": 0}, content=b"x")
    with pytest.raises(FencedError):
        node.send(T0, "logs", b"x", epoch=2)
    with pytest.raises(DeniedError):
        client(server, "").logs("run_1")
    with pytest.raises(UsageError):
        alice.logs("run_1", cursor="../../etc")
    with pytest.raises(UsageError):
        alice._http.request("PUT", f"/v1/blobs/{'0' * 64}", content=b"not that")
    for path, error in [("..%2f..%2fetc", NotFoundError), ("A" * 64, UsageError), ("0" * 63, UsageError)]:
        with pytest.raises(error):
            alice._http.request("GET", f"/v1/blobs/{path}")
    with pytest.raises(LimitError):
        node.send(T0, "logs", b"x" * (PIECE_MAX_B + 1))


def test_a_follower_outlives_kill_9_of_the_server_and_loses_no_line(server: Server) -> None:
    node, count = Node(server), 4000
    data, seen = lines(count), list[str]()

    def read() -> None:
        seen.extend(line.text for line in client(server).follow("digits"))

    offset = node.send(T0, "logs", data[: len(data) // 4])
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    wait_for(lambda: len(seen) > 0)
    for part in (2, 3):
        server.kill()
        server.start()
        with pytest.raises(ConflictError) as caught:  # an agent that has forgotten how far it was asks like this
            node.send(T0, "logs", b"x", offset=10**9)
        offset = caught.value.details["expected"]
        assert offset == len(data) * (part - 1) // 4, "what was acknowledged is still there"
        node.send(T0, "logs", data[offset - 100 : len(data) * part // 4], offset=offset - 100)
    node.send(T0, "logs", data)
    httpx.post(server.url + "/end")
    reader.join(30)
    assert not reader.is_alive()
    assert seen == [f"line {i}" for i in range(count)]


def test_metrics_survive_kill_9_and_stay_exact(server: Server) -> None:
    node = Node(server)
    frames = [piece(range(i, i + 1), loss=[float(i)]) for i in range(300)]
    data, sent = b"".join(frames), 0
    for number in range(300):
        sent = node.send(T0, "metrics", data[sent : len(frames[0]) * (number + 1)], offset=sent, stream="m-1.bin")
        if number in {100, 200}:
            server.kill()
            server.start()
            sent = 0  # as an agent does that has lost its notes
    (curve,) = client(server).chart("digits", "loss")
    assert list(curve.points.values) == [float(i) for i in range(300)]


def test_live_metrics_by_events(server: Server) -> None:
    node, found = Node(server), list[float]()

    def read() -> None:
        for news in client(server).follow_metrics("digits", cursor=""):
            found.extend(value for curve in news.curves for value in curve.points.values)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    sent = 0
    for i in range(50):
        sent = node.send(T0, "metrics", piece(range(i, i + 1), loss=[float(i)]), offset=sent, stream="m")
    wait_for(lambda: len(found) == 50)
    httpx.post(server.url + "/end")
    reader.join(20)
    assert not reader.is_alive()
    assert found == [float(i) for i in range(50)]


def test_commands_for_people_and_machines(server: Server, tmp_path: Path) -> None:
    node, alice = Node(server), client(server)
    node.send(T0, "logs", frame(1_700_000_000_000, "out", b"hello \x1b]0;evil\x07\x1b[31mred\x1b[0m"))
    node.send(T1, "logs", frame(1_700_000_000_001, "err", "über".encode()))
    node.send(T0, "metrics", piece(range(100), loss=[1 / (i + 1) for i in range(100)]), stream="m")
    out = call(server, logs.command, "digits", "--times")
    assert out == "22:13:20.000 hello ]0;evil\x1b[31mred\x1b[0m\n22:13:20.001 worker/1 | über\n"
    assert call(server, logs.command, "digits", "--tail", "1", "--task", "worker/0").startswith("hello")
    first, _ = call(server, logs.command, "digits", as_json=True).splitlines()
    assert json.loads(first)["task"] == T0
    table = call(server, metrics.command, "digits", "-w", "8")
    assert table.splitlines()[1].split() == ["loss", "worker/0", "█▂▁▁▁▁▁▁", "0.01", "0.01", "1", "99", "100"]
    assert json.loads(call(server, metrics.command, "digits", "loss", as_json=True))[0]["series"]["n"] == 100

    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "w.bin").write_bytes(b"weights")
    packed = pack(folder, tmp_path / "model.zip")
    assert alice.upload_blob(tmp_path / "model.zip") == packed.digest
    node.report(T0, name="out/digits", digest=packed.digest, size_b=packed.size_b, packed=True, kind="model")
    node.report(T0, name="notes", digest=alice.upload_blob(b"text"), size_b=4, path="a/notes.txt")
    assert "out/digits  model" in call(server, artifacts.command, "list", "digits")
    said = call(server, artifacts.command, "get", "digits", "out/digits", "-o", str(tmp_path / "got"))
    assert said.strip() == str(tmp_path / "got" / "digits")
    assert (tmp_path / "got" / "digits" / "deep" / "w.bin").read_bytes() == b"weights"
    call(server, artifacts.command, "get", "digits", "notes", "-o", str(tmp_path / "got"))
    assert sorted(path.name for path in (tmp_path / "got").iterdir()) == ["digits", "notes.txt"]
    with pytest.raises(UsageError, match="exists already"):
        call(server, artifacts.command, "get", "digits", "notes", "-o", str(tmp_path / "got"))
    assert "version 1 now" in call(server, models.command, "out-digits", "--alias", "production=1")
    assert call(server, models.command).splitlines()[1].split() == ["out-digits", "1", "production=1"]
    assert "run_1" in call(server, models.command, "out-digits")


def test_every_route_is_described(server: Server) -> None:
    described = httpx.get(server.url + "/openapi.json").json()
    page = described["components"]["schemas"]["LogPage"]["properties"]
    assert set(page) == {"lines", "cursor", "end"}
    for path, methods in described["paths"].items():
        for method in methods.values():
            assert path == "/end" or method["summary"], path
    assert Offset.__name__ in described["components"]["schemas"]
