"""A server that is spoken to by hand: doubled, late, damaged, foreign and hostile updates."""

from __future__ import annotations

import http.client
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from nexus.federate.adapters import frames
from nexus.federate.adapters.http_client import Line
from nexus.federate.adapters.http_server import shared_key
from nexus.federate.adapters.loader import load_task
from nexus.federate.core.chain import digest
from nexus.federate.core.settings import override
from nexus.federate.core.total import Array
from nexus.federate.core.worker import Worker
from nexus.federate.model import Outcome
from nexus.federate.protocol import HEAD, Join, PlanHead, Receipt, ReceiptState, UpdateHead, WorkState
from nexus.infra.clock import SystemClock
from nexus.kernel.errors import DeniedError, NexusError, UsageError
from tests.federate.tasks import SMALL, Silos

pytestmark = pytest.mark.torch
CHANGES = ("cohort=3", "rounds=2", "quorum=0.5", "lost_after_s=30")


@dataclass
class ByHand:
    """One host for all clients, that does exactly what a test says."""

    silos: Silos
    line: Line
    worker: Worker
    folder: Path

    def plan(self, number: int) -> tuple[PlanHead, dict[str, Array]]:
        path = self.folder / "plan"
        self.line.fetch_plan(number, path)
        vectors = frames.read(path, {"model": len(self.worker.trainer.initial)})
        return frames.read_head(path, PlanHead), vectors

    def trained(self, number: int, client: int) -> tuple[UpdateHead, Array]:
        head, plan = self.plan(number)
        turn, step = self.worker.turn(number, client, plan, {})
        update = UpdateHead(
            number=number, client=client, model=head.model, samples=turn.samples, seconds=turn.seconds, loss=turn.loss
        )
        return update, step.send["delta"].copy()

    def send(self, head: UpdateHead, vectors: dict[str, Array], *, to: int | None = None) -> Receipt:
        return self.send_bytes(head.number, head.client if to is None else to, frames.pack(vectors, head))

    def send_bytes(self, number: int, client: int, data: bytes) -> Receipt:
        path = self.folder / "update"
        path.write_bytes(data)
        return self.line.send_update(number, client, path)


@pytest.fixture
def server(tmp_path) -> Iterator[ByHand]:
    silos = Silos(tmp_path, changes=CHANGES)
    silos.start("server")
    task = load_task(SMALL)
    settings = override(task.settings, dict(change.split("=") for change in CHANGES))
    worker = Worker(task, settings, SystemClock())
    key = shared_key(silos.token)
    line = Line("127.0.0.1", silos.port, key, patience_s=30, clock=SystemClock())
    line.join(Join(host=0, clients=tuple(range(12)), parameters=len(worker.trainer.initial)))
    yield ByHand(silos, line, worker, tmp_path)
    line.close()
    silos.close()


def cohort(server: ByHand) -> tuple[int, ...]:
    work = server.line.work(0)
    assert work.state is WorkState.TRAIN
    return work.clients


def test_a_doubled_or_second_update_counts_once_and_the_aggregate_is_the_mean_of_those_recorded(server):
    clients = cohort(server)
    sent = {}
    for client in clients:
        head, delta = server.trained(1, client)
        sent[client] = (head, delta)
        assert server.send(head, {"delta": delta}).state is ReceiptState.ACCEPTED
        if client != clients[-1]:
            assert server.send(head, {"delta": delta}).state is ReceiptState.DUPLICATE
            assert server.send(replace(head, samples=10_000), {"delta": delta * 7}).state is ReceiptState.DUPLICATE
    second = cohort(server)  # waits until the next round is open
    late = server.send(sent[clients[0]][0], {"delta": sent[clients[0]][1]})
    assert late.state is ReceiptState.LATE
    assert "round 1 is over" in late.reason

    (record,) = server.silos.rounds()
    assert record.accepted == clients
    weights = [turn.samples for turn in record.turns]
    assert weights == [sent[client][0].samples for client in clients]
    mean = np.average([sent[c][1].astype(np.float64) for c in clients], axis=0, weights=weights)
    head, plan = server.plan(2)
    np.testing.assert_allclose(plan["model"], server.worker.trainer.initial + mean, atol=1e-6)
    assert head.model == record.model == digest(plan["model"])
    assert len(second) == 3


def test_bad_updates_are_refused_recorded_and_the_round_goes_on(server):
    clients = cohort(server)
    head, delta = server.trained(1, clients[0])
    poisoned = delta.copy()
    poisoned[3] = np.nan
    infinite = delta.copy()
    infinite[0] = np.inf
    cases = [
        ({"delta": poisoned}, "not finite"),
        ({"delta": infinite}, "not finite"),
        ({"delta": delta[:-1]}, "not F32"),
        ({"delta": delta.reshape(1, -1)}, "not F32"),
        ({"delta": delta.astype(np.float64)[: len(delta) // 2]}, "F64"),
        ({"delta": delta, "more": delta[:1]}, "more"),
        ({"other": delta}, "other"),
    ]
    for vectors, said in cases:
        receipt = server.send(head, vectors)
        assert receipt.state is ReceiptState.REFUSED, said
        assert said in receipt.reason
    for client in clients[1:]:
        other, change = server.trained(1, client)
        assert server.send(other, {"delta": change}).state is ReceiptState.ACCEPTED
    assert cohort(server)
    (record,) = server.silos.rounds()
    assert record.accepted == clients[1:]
    assert record.turns[0].outcome is Outcome.REFUSED
    assert "other" in record.turns[0].reason


def test_a_full_disk_costs_no_update(server):
    head, delta = server.trained(1, cohort(server)[0])
    size = len(frames.pack({"delta": delta}, head))
    pid = server.silos.processes["server-0"].pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size - 10, hard))  # a write past this fails, as on a full disk
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(server.send, head, {"delta": delta})
        with pytest.raises(TimeoutError):
            sent.result(0.7)  # is asked to try again, and does
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
        assert sent.result(20).state is ReceiptState.ACCEPTED


def test_what_is_no_frame_or_lies_about_itself_is_refused(server):
    clients = cohort(server)
    head, delta = server.trained(1, clients[0])
    good = frames.pack({"delta": delta}, head)
    for data in (b"", b"garbage", b"\xff" * 64, good[:-4], b"\x80\x04K\x01.", good.replace(HEAD.encode(), b"xxxxx", 1)):
        assert server.send_bytes(1, clients[0], data).state is ReceiptState.REFUSED
    assert server.send(head, {"delta": delta}, to=clients[1]).state is ReceiptState.REFUSED
    outsider = next(client for client in range(12) if client not in clients)
    for wrong in (
        replace(head, client=outsider),
        replace(head, model="0" * 64),
        replace(head, samples=0),
        replace(head, samples=-5),
        replace(head, number=2),
    ):
        receipt = server.send(wrong, {"delta": delta})
        assert receipt.state is ReceiptState.REFUSED
        assert receipt.reason
    assert server.send(head, {"delta": delta}).state is ReceiptState.ACCEPTED, "a good one may still come"


def raw(server: ByHand, method: str, path: str, key: str, body: bytes = b"") -> tuple[int, dict[str, object]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.silos.port, timeout=10)
    try:
        connection.request(method, path, body, {"authorization": f"Bearer {key}"} if key else {})
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, msgspec.json.decode(text) if text[:1] == b"{" else {}
    finally:
        connection.close()


@pytest.mark.parametrize("key", ["", "wrong", "a-token-of-this-run"])
def test_every_route_needs_the_runs_key_and_the_token_itself_is_not_it(key, server):
    for method, path in [
        ("POST", "/v1/join"),
        ("POST", "/v1/alive?host=0"),
        ("GET", "/v1/work?host=0"),
        ("GET", "/v1/rounds/1/plan"),
        ("PUT", "/v1/rounds/1/updates/0"),
    ]:
        assert raw(server, method, path, key)[0] == DeniedError.status


def test_an_update_that_is_too_large_is_cut_off(server):
    clients = cohort(server)
    status, said = raw(
        server, "PUT", f"/v1/rounds/1/updates/{clients[0]}", shared_key(server.silos.token), bytes(400_000)
    )
    assert status == 413
    assert "larger than" in str(said)
    assert list((server.silos.journal / "incoming").iterdir()) == []


def test_another_model_may_not_join_and_an_unknown_host_must(server):
    with pytest.raises(UsageError, match="parameters"):
        server.line.join(Join(host=1, clients=(1,), parameters=5))
    with pytest.raises(NexusError, match="has not joined"):
        server.line.work(7)
    status, _ = raw(server, "GET", "/v1/work?host=x", shared_key(server.silos.token))
    assert status == 400
