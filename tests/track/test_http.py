"""Tracking through its routes: a real server process, the typed client, the commands, and `kill -9`."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import httpx
import msgspec
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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """For tests that leave it alive; each takes a run of its own."""
    with serving(tmp_path_factory.mktemp("shared")) as started:
        yield started


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Server]:
    """For tests that kill it."""
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
        return int(msgspec.json.decode(answer.content)["offset"])

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
    end = node.send(TASKS[2], "logs", lines(1500))
    assert node.send(TASKS[2], "logs", lines(1500)) == end
    with pytest.raises(ConflictError) as caught:
        node.send(TASKS[2], "logs", b"x", offset=end + 1)
    assert caught.value.details["expected"] == end
    assert [line.text for line in alice.lines("job1")] == [f"line {i}" for i in range(1500)]
    assert [line.text for line in alice.lines("job1", tail=2)] == ["line 1498", "line 1499"]
    assert [line.text for line in alice.search("job1", "line 77")] == ["line 77", *(f"line 77{i}" for i in range(10))]

    data = piece(range(3), **{"train/loss": [1.0, float("nan"), float("inf")]})
    assert node.send(TASKS[2], "metrics", data + data[:20], stream="m-1.bin") == len(data)
    (series,) = alice.metrics("job1").series
    assert (series.key, series.n, series.value, series.low, series.high) == ("train/loss", 3, float("inf"), 1.0, 1.0)
    (curve,) = alice.chart("job1", "train/loss")
    assert str(list(curve.points.values)) == "[1.0, nan, inf]"

    (tmp_path / "w.bin").write_bytes(b"weights" * 100_000)
    seen: list[tuple[int, int]] = []
    digest = TrackClient(node.http).upload_blob(tmp_path / "w.bin", progress=lambda *at: seen.append(at))
    assert seen[-1] == (700_000, 700_000)
    node.report(TASKS[2], name="digits", digest=digest, size_b=700_000, path="out/w.bin", kind="model")
    version = alice.version("digits")
    assert (version.number, version.digest, version.run, version.metrics) == (1, digest, "run_1", {})
    assert alice.register("digits", NewVersion(digest=digest, run="job1", metrics={"acc": 0.9})).number == 2
    assert alice.set_alias("digits", "production", 1).aliases == {"production": 1}
    assert alice.version("digits", "production").number == 1
    assert alice.download(digest, tmp_path / "back.bin").read_bytes() == (tmp_path / "w.bin").read_bytes()
    artifact = alice.artifact("job1", "digits")
    content = alice._http.request("GET", f"/v1/artifacts/{artifact.id}/content", headers={"range": "bytes=699995-"})
    assert (content.status, content.content) == (206, b"ights")
    assert content.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in content.headers["content-security-policy"]


def test_who_is_refused(server: Server) -> None:
    node, alice, bob, vera = Node(server), client(server), client(server, "bob"), client(server, "vera")
    node.send(TASKS[4], "logs", lines(1))
    digest = alice.upload_blob(b"weights")
    with pytest.raises(NotFoundError):
        bob.logs("run_2")
    with pytest.raises(NotFoundError):
        next(bob.follow("run_2"))
    assert not bob.has_blob(digest)
    with pytest.raises(NotFoundError):
        bob.register("mine", NewVersion(digest=digest))
    with pytest.raises(ForbiddenError):
        vera.upload_blob(b"other")
    with pytest.raises(ForbiddenError):
        alice._http.request("POST", f"/v1/agent/tasks/{TASKS[4]}/logs", params={"epoch": 1, "offset": 0}, content=b"x")
    with pytest.raises(FencedError):
        node.send(TASKS[4], "logs", b"x", epoch=2)
    with pytest.raises(DeniedError):
        client(server, "").logs("run_2")
    with pytest.raises(UsageError):
        alice.logs("run_2", cursor="../../etc")
    with pytest.raises(UsageError):
        alice._http.request("PUT", f"/v1/blobs/{'0' * 64}", content=b"not that")
    for path, error in [("..%2f..%2fetc", NotFoundError), ("A" * 64, UsageError), ("0" * 63, UsageError)]:
        with pytest.raises(error):
            alice._http.request("GET", f"/v1/blobs/{path}")
    with pytest.raises(LimitError):
        node.send(TASKS[4], "logs", b"x" * (PIECE_MAX_B + 1))


def test_a_node_brings_and_takes_for_the_project_whose_task_it_has(server: Server) -> None:
    """It may be another's than the node's own, and is no other than that of the lease that it names."""
    guest, alice, bob = server.connect("guest"), client(server), client(server, "bob")
    path, lease = f"/v1/blobs/{alice.upload_blob(b'a workspace')}", {"task": TASKS[6], "epoch": 1}
    assert guest.request("GET", path, params=lease).content == b"a workspace"
    with pytest.raises(NotFoundError):
        guest.request("GET", path)
    with pytest.raises(FencedError):
        guest.request("GET", path, params={**lease, "epoch": 2})
    with pytest.raises(NotFoundError):
        bob._http.request("GET", path, params=lease)
    output = hashlib.sha256(b"an output").hexdigest()
    guest.request("PUT", f"/v1/blobs/{output}", params=lease, content=b"an output")
    assert alice.has_blob(output) and not bob.has_blob(output)


def test_a_follower_outlives_kill_9_of_the_server_and_loses_no_line(mortal: Server) -> None:
    server = mortal
    node, count = Node(server), 4000
    data, seen = lines(count), list[str]()

    def read() -> None:
        seen.extend(line.text for line in client(server).follow("job3"))

    offset = node.send(TASKS[6], "logs", data[: len(data) // 4])
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    wait_for(lambda: len(seen) > 0)
    server.kill()
    server.start()
    with pytest.raises(ConflictError) as caught:  # an agent that has forgotten how far it was asks like this
        node.send(TASKS[6], "logs", b"x", offset=10**9)
    assert caught.value.details["expected"] == offset, "what was acknowledged is still there"
    node.send(TASKS[6], "logs", data)
    httpx.post(server.url + "/end/3")
    reader.join(30)
    assert not reader.is_alive()
    assert seen == [f"line {i}" for i in range(count)]


def test_metrics_survive_kill_9_and_stay_exact(mortal: Server) -> None:
    server = mortal
    node = Node(server)
    frames = [piece(range(i, i + 1), loss=[float(i)]) for i in range(300)]
    data, sent = b"".join(frames), 0
    for number in range(300):
        sent = node.send(TASKS[8], "metrics", data[sent : len(frames[0]) * (number + 1)], offset=sent, stream="m-1.bin")
        if number == 150:
            server.kill()
            server.start()
            sent = 0  # as an agent does that has lost its notes
    (curve,) = client(server).chart("job4", "loss")
    assert list(curve.points.values) == [float(i) for i in range(300)]


def test_live_metrics_by_events(server: Server) -> None:
    node, found = Node(server), list[float]()

    def read() -> None:
        for news in client(server).follow_metrics("job5", cursor=""):
            found.extend(value for curve in news.curves for value in curve.points.values)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    sent = 0
    for i in range(50):
        sent = node.send(TASKS[10], "metrics", piece(range(i, i + 1), loss=[float(i)]), offset=sent, stream="m")
    wait_for(lambda: len(found) == 50)
    httpx.post(server.url + "/end/5")
    reader.join(20)
    assert not reader.is_alive()
    assert found == [float(i) for i in range(50)]


def test_commands_for_people_and_machines(server: Server, tmp_path: Path) -> None:
    node, alice = Node(server), client(server)
    node.send(TASKS[12], "logs", frame(1_700_000_000_000, "out", b"hello \x1b]0;evil\x07\x1b[31mred\x1b[0m"))
    node.send(TASKS[13], "logs", frame(1_700_000_000_001, "err", "über".encode()))
    node.send(TASKS[12], "metrics", piece(range(100), loss=[1 / (i + 1) for i in range(100)]), stream="m")
    out = call(server, logs.command, "job6", "--times")
    assert out == "22:13:20.000 hello ]0;evil\x1b[31mred\x1b[0m\n22:13:20.001 worker/1 | über\n"
    assert call(server, logs.command, "job6", "--tail", "1", "--task", "worker/0").startswith("hello")
    first, _ = call(server, logs.command, "job6", as_json=True).splitlines()
    assert json.loads(first)["task"] == TASKS[12]
    table = call(server, metrics.command, "job6", "-w", "8")
    assert table.splitlines()[1].split() == ["loss", "worker/0", "█▂▁▁▁▁▁▁", "0.01", "0.01", "1", "99", "100"]
    assert json.loads(call(server, metrics.command, "job6", "loss", as_json=True))[0]["series"]["n"] == 100

    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "w.bin").write_bytes(b"weights")
    packed = pack(folder, tmp_path / "model.zip")
    assert alice.upload_blob(tmp_path / "model.zip") == packed.digest
    node.report(TASKS[12], name="out/digits", digest=packed.digest, size_b=packed.size_b, packed=True, kind="model")
    node.report(TASKS[12], name="notes", digest=alice.upload_blob(b"text"), size_b=4, path="a/notes.txt")
    assert "out/digits  model" in call(server, artifacts.command, "list", "job6")
    said = call(server, artifacts.command, "get", "job6", "out/digits", "-o", str(tmp_path / "got"))
    assert said.strip() == str(tmp_path / "got" / "digits")
    assert (tmp_path / "got" / "digits" / "deep" / "w.bin").read_bytes() == b"weights"
    call(server, artifacts.command, "get", "job6", "notes", "-o", str(tmp_path / "got"))
    assert sorted(path.name for path in (tmp_path / "got").iterdir()) == ["digits", "notes.txt"]
    with pytest.raises(UsageError, match="exists already"):
        call(server, artifacts.command, "get", "job6", "notes", "-o", str(tmp_path / "got"))
    assert "version 1 now" in call(server, models.command, "out-digits", "--alias", "production=1")
    assert call(server, models.command).splitlines()[1].split() == ["out-digits", "1", "production=1"]
    assert "run_6" in call(server, models.command, "out-digits")


def test_every_route_is_described(server: Server) -> None:
    described = httpx.get(server.url + "/openapi.json").json()
    page = described["components"]["schemas"]["LogPage"]["properties"]
    assert set(page) == {"lines", "cursor", "end"}
    for path, methods in described["paths"].items():
        for method in methods.values():
            assert path.startswith("/end") or method["summary"], path
    assert Offset.__name__ in described["components"]["schemas"]
