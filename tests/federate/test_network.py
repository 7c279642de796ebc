"""One server and three hosts as real processes: the simulation's model, bit by bit, and what kill -9 costs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from safetensors.torch import load_file

from nexus.federate.adapters.loader import load_task
from nexus.federate.core.algorithms import ALGORITHMS
from nexus.federate.core.parts import FAMILIES, SIMULATED
from nexus.federate.core.settings import override
from nexus.federate.model import Outcome, Round
from nexus.federate.simulation import Simulation, simulate
from nexus.kernel.errors import DeniedError
from tests.federate.tasks import APP, SMALL, Silos, until

pytestmark = pytest.mark.torch


@pytest.fixture
def silos(tmp_path) -> Iterator[Silos]:
    made = Silos(tmp_path)
    yield made
    made.close()


def simulated(app: Path, *changes: str) -> Simulation:
    task = load_task(app)
    return simulate(task, override(task.settings, dict(change.split("=") for change in changes)), workers=1)


def finished(silos: Silos, *, gone: tuple[str, ...] = ()) -> list[Round]:
    for name in silos.processes:
        if name not in gone:
            assert silos.wait(name) == 0, silos.log(name)
    return silos.rounds()


PARTS = [(family, name) for family, table in FAMILIES.items() if family not in SIMULATED for name in table]


@pytest.mark.parametrize(("family", "name"), PARTS)
def test_a_part_gives_the_same_model_as_in_simulation(family, name, silos):
    seeded = ("privacy.seeded=1",) if family == "privacy" else ()  # else the noise is drawn anew
    silos.changes = (f"{family}={name}", *seeded)
    silos.start_all()
    rounds = finished(silos)
    wanted = simulated(SMALL, *silos.changes).rounds
    assert [(r.model, r.notes) for r in rounds] == [(r.model, r.notes) for r in wanted]


def test_noise_over_the_network_is_nobodys_to_know_and_the_budget_outlives_a_restart(silos):
    silos.delay_s = 0.05
    silos.changes = ("privacy=central", "privacy.noise=4", "privacy.epsilon=3.5")
    silos.start_all()
    until(lambda: len(silos.rounds()) >= 1)
    silos.kill("server-0")
    silos.start("server")
    rounds = finished(silos)
    wanted = simulated(SMALL, *silos.changes).rounds
    assert [r.notes for r in rounds] == [r.notes for r in wanted]
    assert 1 < len(rounds) < 4, "the budget ends it"
    assert rounds[0].model != wanted[0].model
    assert "the privacy budget is spent" in silos.log("server-0")


@pytest.mark.parametrize("name", ALGORITHMS.names())
def test_the_same_seed_gives_the_same_model_as_in_simulation(name, silos):
    silos.changes = (f"algorithm={name}",)
    silos.start_all()
    rounds = finished(silos)
    wanted = simulated(SMALL, *silos.changes)
    assert [r.model for r in rounds] == [r.model for r in wanted.rounds]
    for ours, theirs in zip(rounds, wanted.rounds, strict=True):
        assert ours.metrics == pytest.approx(theirs.metrics)
    assert all(r.accepted == r.cohort and r.bytes_up > 0 and r.bytes_down > 0 for r in rounds)
    written = load_file(silos.outputs / "model.safetensors")
    for key, tensor in wanted.worker.trainer.tensors(wanted.model).items():
        assert written[key].equal(tensor)
    lines = (silos.outputs / "rounds.jsonl").read_bytes().splitlines()
    assert [msgspec.json.decode(line, type=Round) for line in lines] == rounds


def test_hosts_may_come_before_their_server_and_in_any_order(silos):
    for index in (2, 0, 1):
        silos.start("client", index)
    until(lambda: (silos.folder / "client-1" / "log").exists())
    silos.start("server")
    assert len(finished(silos)) == 4


def test_a_killed_client_does_not_hang_the_round(silos):
    silos.delay_s = 0.1
    silos.start_all()
    until(lambda: len(silos.updates()) >= 1)
    silos.kill("client-1")
    rounds = finished(silos, gone=("client-1",))
    assert len(rounds) == 4
    turns = [turn for r in rounds for turn in r.turns]
    dropped = [turn for turn in turns if turn.outcome is Outcome.DROPPED]
    assert dropped
    assert {turn.client % 3 for turn in dropped} == {1}
    assert {turn.reason for turn in dropped} == {"its host went silent"}
    assert all(len(r.accepted) >= 3 for r in rounds)


def test_a_killed_server_goes_on_where_it_was(silos):
    silos.delay_s = 0.5
    silos.changes = ("algorithm=scaffold",)
    silos.start_all()
    for committed in (1, 2):
        until(lambda least=committed: bool(len(silos.rounds()) >= least and len(silos.updates()) >= 2))  # type: ignore[misc]
        silos.kill("server-0")
        silos.start("server")
    rounds = finished(silos)
    assert [r.model for r in rounds] == [r.model for r in simulated(SMALL, *silos.changes).rounds]
    assert all(r.accepted == r.cohort for r in rounds)


def test_a_host_that_comes_back_takes_part_again(silos):
    silos.delay_s = 0.1
    silos.changes = ("quorum=1.0", "algorithm=scaffold")  # nobody may be missing: the round waits for it
    silos.start_all()
    until(lambda: len(silos.rounds()) >= 1)
    silos.kill("client-2")
    silos.start("client", 2)
    rounds = finished(silos)
    assert [r.model for r in rounds] == [r.model for r in simulated(SMALL, *silos.changes).rounds]


def test_sites_take_part_by_name_and_nobody_else(silos):
    silos.sites = ("clinic-a", "clinic-b")
    silos.start_all()
    silos.start("clinic-c")
    silos.start("client", 0)
    for stranger in ("clinic-c-0", "client-0"):
        assert silos.wait(stranger) == DeniedError.exit_code
        assert "not on the list" in silos.log(stranger)
    rounds = finished(silos, gone=("clinic-c-0", "client-0"))
    assert [r.model for r in rounds] == [r.model for r in simulated(SMALL).rounds]


def test_below_the_quorum_the_run_fails_with_its_reason(silos):
    silos.changes = ("quorum=0.9", "deadline_s=2.5", "lost_after_s=1.0")
    silos.start("server")
    silos.start("client", 0)
    assert silos.wait("server-0") == 1
    assert silos.wait("client-0") == 1
    for name in ("server-0", "client-0"):
        assert "of 6 updates, and 6 are needed" in silos.log(name)
    assert silos.rounds() == []


def test_a_host_of_another_run_is_refused(silos):
    silos.start("server")
    silos.token = "another-token"
    silos.start("client", 0)
    assert silos.wait("client-0") == 3
    assert "not a task of the run" in silos.log("client-0")


@pytest.mark.slow
def test_the_example_as_an_agent_starts_it(tmp_path):
    """`python -m nexus.federate.run` four times, on the real digits."""
    silos = Silos(tmp_path, changes=("algorithm=scaffold", "rounds=3"), app=APP, fork=False)
    try:
        silos.start_all()
        rounds = finished(silos)
    finally:
        silos.close()
    assert [r.model for r in rounds] == [r.model for r in simulated(APP, *silos.changes).rounds]
