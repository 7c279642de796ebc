"""Secure sums between real processes: what the server never has, who may vanish, what kill -9 costs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nexus.federate.adapters.loader import load_task
from nexus.federate.core.chain import digest
from nexus.federate.core.secure import SECURE
from nexus.federate.core.settings import override
from nexus.federate.core.worker import Worker
from nexus.federate.model import Outcome, Round
from nexus.federate.simulation import simulate
from nexus.infra.clock import SystemClock
from tests.federate.tasks import SMALL, Silos, until

pytestmark = pytest.mark.torch


@pytest.fixture
def silos(tmp_path) -> Iterator[Silos]:
    made = Silos(tmp_path)
    yield made
    made.close()


def worker(silos: Silos) -> Worker:
    task = load_task(SMALL)
    return Worker(task, override(task.settings, dict(c.split("=") for c in silos.changes)), SystemClock())


def first_updates(made: Worker) -> dict[int, np.ndarray]:
    state = made.begin()
    cohort, plan = made.composition.cohort(state, []), made.algorithm.plan(state)
    return {client: made.turn(1, client, plan, {})[1].send["delta"].copy() for client in cohort}


def private_memory(pid: int) -> Iterator[bytes]:
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in maps:
            places, rights, *_ = line.split()
            if not rights.startswith("rw"):
                continue
            start, end = (int(place, 16) for place in places.split("-"))
            try:
                memory.seek(start)
                yield memory.read(end - start)
            except (OSError, ValueError, OverflowError):
                continue  # gone meanwhile


def seen(silos: Silos, needles: list[bytes]) -> int:
    """How many of these the server has on its disk or in its memory."""
    disk = [path.read_bytes() for path in silos.journal.rglob("*") if path.is_file()]
    found = set()
    for data in (*disk, *private_memory(silos.processes["server-0"].pid)):
        found |= {needle for needle in needles if needle in data}
    return len(found)


@pytest.mark.parametrize("name", ["", "secagg", "lightsecagg"])
def test_the_server_has_no_update_on_its_disk_or_in_its_memory(name, silos):
    """Without secure aggregation it does, or this test would find nothing anywhere."""
    # a seed for each: what one test computes, the next one's processes inherit
    seed = f"seed={1000 + [*SECURE].index(name) if name else 999}"
    silos.changes = (seed, "quorum=1.0", "rounds=2", *([f"secure_aggregation={name}"] if name else []))
    silos.delay_s = 0.1 if name else 1.0  # so long that whoever looks finds what lies there
    silos.start_all()  # before this process has computed any of it, since processes are forked
    made = worker(silos)
    needles = [update[40:60].tobytes() for update in first_updates(made).values()]
    if name:
        state = made.begin()
        coding = made.composition.coding(state, len(needles))
        for client, update in first_updates(made).items():
            made.trainer.enter(client, 1)
            needles.append(
                coding.encode({"delta": update}, made.algorithm.weight(made.trainer.samples))[40:60].tobytes()
            )
    most = 0
    while silos.processes["server-0"].poll() is None:
        try:
            most = max(most, seen(silos, needles))
        except FileNotFoundError:
            continue  # a file of a round that has ended, or the process itself
        time.sleep(0.1)
    assert silos.wait("server-0") == 0, silos.log("server-0")
    assert (most == 0) is bool(name)


def check_chain(silos: Silos, rounds: list[Round]) -> None:
    """Each model is what the coded updates of exactly those who are recorded sum up to."""
    made = worker(silos)
    state = made.begin()
    past: list[Round] = []
    for record in rounds:
        cohort, plan = made.composition.cohort(state, past), made.algorithm.plan(state)
        coding, words = made.composition.coding(state, len(cohort)), []
        for client in record.accepted:
            turn, step = made.turn(record.number, client, plan, {})
            words.append(coding.encode(step.send, made.algorithm.weight(turn.samples)))
        state = made.algorithm.advance(state, coding.total(coding.add(words), len(words)))
        assert digest(state.model) == record.model
        past.append(record)


@pytest.mark.parametrize("name", ["secagg_plus", pytest.param("lightsecagg", marks=pytest.mark.slow)])
def test_a_killed_client_is_left_out_and_the_sum_is_of_the_others(name, silos):
    silos.delay_s = 0.1
    silos.changes = (f"secure_aggregation={name}", "cohort=9", "lost_after_s=1.0", "rounds=3")
    silos.start_all()
    until(lambda: len(silos.rounds()) >= 1)
    silos.kill("client-1")
    assert silos.wait("server-0") == 0, silos.log("server-0")
    rounds = silos.rounds()
    assert len(rounds) == 3
    dropped = [turn for record in rounds for turn in record.turns if turn.outcome is Outcome.DROPPED]
    assert dropped
    assert {turn.client % 3 for turn in dropped} == {1}
    assert all(len(record.accepted) >= 5 for record in rounds)
    check_chain(silos, rounds)


def test_a_killed_server_makes_another_attempt(silos):
    silos.delay_s = 0.05
    silos.changes = ("secure_aggregation=secagg", "algorithm=scaffold")
    silos.start_all()
    for committed in (1, 2):
        until(lambda least=committed: len(silos.rounds()) >= least)  # type: ignore[misc]
        silos.kill("server-0")
        silos.start("server")
    for name in silos.processes:
        assert silos.wait(name) == 0, silos.log(name)
    task = load_task(SMALL)
    settings = override(task.settings, dict(change.split("=") for change in silos.changes))
    assert [r.model for r in silos.rounds()] == [r.model for r in simulate(task, settings, workers=1).rounds]


def test_where_too_many_vanish_the_run_ends_with_the_reason(silos):
    silos.changes = ("secure_aggregation=secagg", "deadline_s=2.0", "lost_after_s=0.5")
    silos.start("server")
    silos.start("client", 0)
    assert silos.wait("server-0") == 1
    assert "of 6 clients answered in phase keys of secure aggregation, 4 are needed" in silos.log("server-0")
    assert silos.wait("client-0") == 1
    assert silos.rounds() == []


def test_a_server_that_would_see_updates_gets_none_from_who_did_not_mean_to_show_them(silos):
    silos.start("server")
    silos.changes = ("secure_aggregation=secagg",)
    silos.start("client", 0)
    assert silos.wait("client-0") != 0
    assert "not what this host's own settings say" in silos.log("client-0")
    assert silos.updates() == []
