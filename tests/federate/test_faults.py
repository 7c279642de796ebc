"""A server that is spoken to by hand: doubled, late, damaged, foreign and hostile updates."""

from __future__ import annotations

import http.client
import resource
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nexus.federate.adapters import frames
from nexus.federate.adapters.http_client import Line
from nexus.federate.adapters.loader import load_task
from nexus.federate.adapters.passport import Passport, passport
from nexus.federate.adapters.reach import Direct, Reach
from nexus.federate.core.chain import digest
from nexus.federate.core.identity import Holder
from nexus.federate.core.settings import override
from nexus.federate.core.total import Array
from nexus.federate.core.worker import Worker
from nexus.federate.model import Outcome
from nexus.federate.protocol import HEAD, Join, PlanHead, Receipt, ReceiptState, UpdateHead, WorkState
from nexus.infra.clock import SystemClock
from nexus.kernel.errors import DeniedError, LimitError, NexusError, UnavailableError, UsageError
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
        work = self.line.work()
        assert work.number == number
        self.line.fetch_plan(work, path)
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


def certified(token: str, holder: Holder) -> Passport:
    def fail(error: NexusError) -> None:
        raise error

    return passport({"NEXUS_TOKEN": token}, holder, patience=fail)


def dialled(silos: Silos, holder: Holder, *, patience_s: float = 30.0, token: str = "") -> Line:
    tls = certified(token or silos.token, holder).context(server=False)
    return Line(Reach([Direct("127.0.0.1", silos.port)], tls), patience_s=patience_s, clock=SystemClock())


@contextmanager
def by_hand(folder: Path, *more: str) -> Iterator[ByHand]:
    changes = (*CHANGES, *more)
    silos = Silos(folder, changes=changes, count=1)
    silos.start("server")
    task = load_task(SMALL)
    settings = override(task.settings, dict(change.split("=") for change in changes))
    worker = Worker(task, settings, SystemClock())
    try:
        with closing(dialled(silos, Holder("client", 0))) as line:
            line.join(Join(clients=tuple(range(12)), parameters=len(worker.trainer.initial)))
            yield ByHand(silos, line, worker, folder)
    finally:
        silos.close()


@pytest.fixture
def server(tmp_path) -> Iterator[ByHand]:
    with by_hand(tmp_path) as one:
        yield one


def cohort(server: ByHand) -> tuple[int, ...]:
    work = server.line.work()
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


def moved(server: ByHand, lies: dict[str, Any], factor: float = 1.0) -> tuple[Array, list[Array], list[int]]:
    """How far the model goes in a round whose first client lies; the honest updates, and the samples told."""
    clients = cohort(server)
    deltas, samples = [], []
    for client in clients:
        head, delta = server.trained(1, client)
        if client == clients[0]:
            head, delta = replace(head, **lies), delta * np.float32(factor)
        assert server.send(head, {"delta": delta}).state is ReceiptState.ACCEPTED
        deltas.append(delta)
        samples.append(head.samples)
    cohort(server)  # waits until the next round is open
    return server.plan(2)[1]["model"] - server.worker.trainer.initial, deltas, samples


def test_who_lies_about_samples_counts_for_the_cap_and_no_more(tmp_path):
    with by_hand(tmp_path, "samples_cap=30") as server:
        change, deltas, samples = moved(server, {"samples": 2_000_000_000})
        mean = np.average(np.array(deltas, np.float64), axis=0, weights=np.minimum(samples, 30))
        np.testing.assert_allclose(change, mean, atol=1e-5)
        (record,) = server.silos.rounds()
        assert record.turns[0].samples == 2_000_000_000, "what it said is on record"


@pytest.mark.parametrize("defence", ["norm_clip", "geometric_median"])
def test_a_huge_update_moves_a_defended_model_no_further_than_the_others_do(defence, tmp_path):
    with by_hand(tmp_path, f"defence={defence}", "samples_cap=1") as server:
        change, deltas, _ = moved(server, {}, factor=1e6)
        assert np.linalg.norm(change) < 2 * max(np.linalg.norm(delta) for delta in deltas[1:])
        (record,) = server.silos.rounds()
        trust = [turn.notes["trust"] for turn in record.turns]
        assert trust[0] < 0.01 < min(trust[1:])


def test_contributions_are_measured_in_real_rounds_and_by_what_was_sent(tmp_path):
    with by_hand(tmp_path, "contribution=mr_shapley", "contribution.by_loss=1", "samples_cap=1") as server:
        moved(server, {}, factor=-3.0)
        (record,) = server.silos.rounds()
        shares = [turn.notes["contribution"] for turn in record.turns]
        assert shares[0] == min(shares) < 0 < max(shares)


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


def asked(connection: http.client.HTTPConnection) -> int:
    try:
        connection.request("GET", "/v1/work")
        return connection.getresponse().status
    finally:
        connection.close()


def test_who_has_no_certificate_of_the_run_is_not_even_heard(server):
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname, bare.verify_mode = False, ssl.CERT_NONE
    nobody = http.client.HTTPSConnection("127.0.0.1", server.silos.port, timeout=10, context=bare)
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
        asked(nobody)
    plain = http.client.HTTPConnection("127.0.0.1", server.silos.port, timeout=10)
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        asked(plain)


def test_a_certificate_of_another_run_is_refused_and_so_is_a_server_of_another_run(server):
    ours, theirs = certified(server.silos.token, Holder("client", 3)), certified("another", Holder("client", 3))
    foreign = Passport(ours.authority, theirs.certificate, theirs.key)  # believes the server, who believes not it
    line = Line(
        Reach([Direct("127.0.0.1", server.silos.port)], foreign.context(server=False)),
        patience_s=5,
        clock=SystemClock(),
    )
    with pytest.raises((DeniedError, UnavailableError)):  # by an alert, or cut off at once
        line.alive()
    with pytest.raises(DeniedError, match="not a task of the run"):
        dialled(server.silos, Holder("client", 3), token="another", patience_s=5).alive()


def test_only_client_tasks_are_heard_and_no_client_is_taken_for_the_server(server):
    somebody = dialled(server.silos, Holder("somebody", 0))
    with pytest.raises(DeniedError, match="not on the list"):
        somebody.alive()
    somebody.close()
    listener = socket.create_server(("127.0.0.1", 0))
    fake = certified(server.silos.token, Holder("client", 5)).context(server=True)
    with listener, ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(lambda: fake.wrap_socket(listener.accept()[0], server_side=True).close())
        mine = certified(server.silos.token, Holder("client", 1)).context(server=False)
        with pytest.raises(DeniedError):
            Reach([Direct(*listener.getsockname())], mine).dial()
        accepted.result(10)


def test_an_update_that_is_too_large_is_not_taken(server):
    clients = cohort(server)
    path = server.folder / "large"
    path.write_bytes(bytes(400_000))
    with pytest.raises(LimitError, match="larger than"):
        server.line.send_update(1, clients[0], path)
    assert not list(server.silos.journal.glob("incoming/*"))


def test_another_model_or_version_may_not_join(server):
    with pytest.raises(UsageError, match="parameters"):
        server.line.join(Join(clients=(1,), parameters=5))
    with pytest.raises(UsageError, match="version 1"):
        server.line.join(Join(clients=(1,), parameters=5, version=1))


@pytest.fixture
def pair(tmp_path) -> Iterator[tuple[Silos, Line, Line, int]]:
    """Two hosts of one server, and the length of its model."""
    silos = Silos(tmp_path, changes=CHANGES, count=2)
    silos.start("server")
    task = load_task(SMALL)
    lines = [dialled(silos, Holder("client", index)) for index in (0, 1)]
    yield silos, lines[0], lines[1], len(Worker(task, task.settings, SystemClock()).trainer.initial)
    for line in lines:
        line.close()
    silos.close()


def test_a_host_speaks_for_its_own_clients_only(pair, tmp_path):
    silos, even, odd, parameters = pair
    with pytest.raises(NexusError, match="has not joined"):
        even.work()
    with pytest.raises(DeniedError, match="may not speak for"):
        odd.join(Join(clients=tuple(range(12)), parameters=parameters))
    for host, line in enumerate((even, odd)):
        line.join(Join(clients=tuple(range(host, 12, 2)), parameters=parameters))
    path = tmp_path / "forged"
    work = even.work()
    path.write_bytes(
        frames.pack(
            {"delta": np.zeros(parameters, np.float32)},
            UpdateHead(number=1, client=work.clients[0], model=work.model, samples=9, seconds=0.1, loss=None),
        )
    )
    with pytest.raises(DeniedError, match="does not speak for client"):
        odd.send_update(1, work.clients[0], path)
    assert even.send_update(1, work.clients[0], path).state is ReceiptState.ACCEPTED
    third = dialled(silos, Holder("client", 2))
    with pytest.raises(DeniedError, match="not on the list"):
        third.alive()
    third.close()
