"""How rounds follow each other, and who waits for whom on virtual time: each way, and what it is good for."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from nexus.federate.core.device import Traced, errand, read_trace
from nexus.federate.core.devices.random import RandomDevices
from nexus.federate.core.mixing import metropolis, peers, pushed
from nexus.federate.core.options import options_of
from nexus.federate.core.schedules import SCHEDULES
from nexus.federate.core.settings import check, override
from nexus.federate.core.task import FederatedData, Task
from nexus.federate.model import Outcome, Part, Round, Settings
from nexus.federate.simulation import Simulation, simulate
from nexus.kernel.errors import FileError, JobError, UsageError

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def people(digits: Task) -> Task:
    """The example's twenty people with a model that trains in no time."""

    def model() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    return replace(digits, model=model)


def run(task, workers: int = 1, /, **changes: object) -> Simulation:
    return simulate(task, replace(task.settings, **changes), workers=workers)


def seconds_to(result: Simulation, accuracy: float) -> float:
    """Virtual seconds until the model was that good."""
    reached = (r.notes["virtual_s"] for r in result.rounds if r.metrics["accuracy"] >= accuracy)
    return next(reached, math.inf)


# --------------------------------------------------------------------------- devices


def test_devices_are_as_their_options_say():
    alike = RandomDevices(speed=100, spread=0, jitter=0, bandwidth=1000, seed=1)
    assert alike.seconds(3, 1, 200, 500) == pytest.approx(2.5)
    assert alike.comes(3, 7.0) == 7.0
    assert alike.leaves(3, 7.0) == math.inf
    spread = sorted(RandomDevices(seed=1).seconds(client, 1, 200, 0) for client in range(400))
    assert 0.7 < spread[200] < 1.4, "the median client takes one second"
    assert 2.5 < spread[360] / spread[200] < 5.0, "the slowest tenth is about 3.6 times slower"
    failing = RandomDevices(drop=0.3, seed=1)
    assert 0.28 < np.mean([failing.fails(client, 1) is not None for client in range(5000)]) < 0.32


def test_a_client_is_away_for_its_part_of_every_period():
    devices = RandomDevices(away=0.25, period_s=100.0, seed=2)
    moments = np.arange(0.0, 1000.0, 1.0)
    here = np.array([devices.comes(5, at) <= at for at in moments])
    assert 0.72 < here.mean() < 0.78
    for at in moments[::7]:
        comes = devices.comes(5, at)
        assert devices.comes(5, comes + 1e-6) == comes + 1e-6, "when it comes it is there"
        assert comes < devices.leaves(5, comes + 1e-6) <= comes + 75.0 + 1e-3


def test_what_becomes_of_a_turn():
    alike = RandomDevices(speed=100, spread=0, jitter=0, bandwidth=1e9)
    assert errand(alike, 0, 1, 10.0, 200, 0).ends == pytest.approx(12.0)
    away = Traced(alike, {}, {0: ((0.0, 11.0),)})
    lost = errand(away, 0, 1, 10.0, 200, 0)
    assert (lost.ends, lost.lost) == (11.0, "it went away")


def test_a_trace_says_when_clients_are_there_and_how_fast():
    text = "client,from,to,speed\n0,0,10,50\n0,20,30,\n1,5,6,\n"
    trace = read_trace(text.splitlines(), "t.csv", RandomDevices(speed=100, spread=0, jitter=0))
    assert trace.seconds(0, 1, 100, 0) == pytest.approx(2.0)
    assert trace.seconds(1, 1, 100, 0) == pytest.approx(1.0), "as usual"
    assert [trace.comes(0, at) for at in (0.0, 12.0, 31.0)] == [0.0, 20.0, math.inf]
    assert trace.leaves(0, 25.0) == 30.0
    assert trace.comes(7, 99.0) == 99.0


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("who,speed\n", 1),
        ("client\n0\n", 1),
        ("client,from\n0,1\n", 1),
        ("client,speed\nx,3\n", 2),
        ("client,speed\n0,3\n1,0\n", 3),
        ("client,from,to\n0,5,5\n", 2),
    ],
)
def test_a_bad_trace_is_refused_with_its_line(text, line):
    with pytest.raises(FileError) as caught:
        read_trace(text.splitlines(), "t.csv", RandomDevices())
    assert caught.value.hint
    assert caught.value.details["line"] == line


def test_a_trace_that_ends_is_said(people, tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("client,from,to\n" + "".join(f"{client},0,4\n" for client in range(20)))
    with pytest.raises(JobError) as caught:
        run(people, trace=str(path), devices=Part("random", {"spread": 0.0}))
    assert "trace" in caught.value.hint or "quorum" in caught.value.hint
    with pytest.raises(FileError, match="cannot be read"):
        run(people, trace=str(tmp_path / "nowhere.csv"))


# --------------------------------------------------------------------------- synchronous


def test_devices_alone_change_no_bit_of_the_model(people):
    plain, timed = run(people, rounds=3), run(people, rounds=3, devices=Part("random"))
    assert [r.model for r in plain.rounds] == [r.model for r in timed.rounds]
    clock = [r.notes["virtual_s"] for r in timed.rounds]
    assert clock == sorted(clock)
    assert clock[0] > 0
    assert all("virtual_s" not in r.notes for r in plain.rounds)


def test_a_round_lasts_as_long_as_its_slowest_client(people):
    slow, quick = (run(people, rounds=2, devices=Part("random", {"speed": s})) for s in (100.0, 200.0))
    bytes_only = Part("random", {"speed": 1e9})
    moved = run(people, rounds=2, devices=bytes_only).rounds[-1].notes["virtual_s"]
    times = [result.rounds[-1].notes["virtual_s"] - moved for result in (slow, quick)]
    assert times[0] == pytest.approx(2 * times[1], rel=0.1)


def test_asking_too_many_makes_rounds_shorter(people):
    devices = Part("random", {"spread": 1.5})
    patient = run(people, rounds=4, devices=devices)
    eager = run(people, rounds=4, devices=devices, schedule=Part("sync", {"over": 1.8}))
    assert eager.rounds[-1].notes["virtual_s"] < patient.rounds[-1].notes["virtual_s"] / 2
    assert all(len(r.accepted) == 10 and len(r.cohort) == 18 for r in eager.rounds)
    assert {turn.reason for r in eager.rounds for turn in r.turns if turn.outcome is Outcome.DROPPED} == {
        "others were faster"
    }


def test_a_deadline_ends_rounds_without_the_slow(people):
    devices = Part("random", {"spread": 1.5})
    result = run(people, rounds=4, devices=devices, deadline_s=3.0)
    assert all(r.seconds >= 0 and len(r.accepted) < 10 for r in result.rounds[:1])
    assert result.rounds[-1].notes["virtual_s"] <= 12.0 + 1e-9
    late = [t.reason for r in result.rounds for t in r.turns if t.outcome is Outcome.DROPPED]
    assert set(late) == {"sent nothing before the deadline"}
    with pytest.raises(JobError, match="are needed"):
        run(people, rounds=4, devices=devices, deadline_s=3.0, quorum=1.0)


def test_devices_that_fail_are_dropped_with_their_reason(people):
    result = run(people, rounds=6, devices=Part("random", {"drop": 0.3}), quorum=0.2)
    dropped = [turn for r in result.rounds for turn in r.turns if turn.outcome is Outcome.DROPPED]
    assert 8 <= len(dropped) <= 30
    assert {turn.reason for turn in dropped} == {"its device failed"}
    assert all(turn.bytes_up == 0 for turn in dropped)


def test_only_those_who_are_there_take_part(people):
    result = run(people, rounds=3, devices=Part("random", {"away": 0.6, "period_s": 1000.0}), quorum=0.1)
    first = set(result.rounds[0].cohort)
    devices = RandomDevices(away=0.6, period_s=1000.0, seed=people.settings.seed)
    assert first
    assert all(devices.comes(client, 0.0) == 0.0 for client in first)


# --------------------------------------------------------------------------- buffered


def test_nobody_waits_for_the_slow(people):
    """The same work, half of the clients very slow: the server steps far more often."""
    devices = Part("random", {"spread": 1.5})
    waits = run(people, rounds=15, devices=devices)
    flows = run(people, rounds=50, devices=devices, schedule=Part("buffered", {"part": 0.3}))
    assert sum(len(r.accepted) for r in flows.rounds) == sum(len(r.accepted) for r in waits.rounds)
    assert seconds_to(flows, 0.6) < seconds_to(waits, 0.6) / 2 < math.inf


def test_the_server_steps_with_the_part_that_came_and_says_how_old_it_was(people):
    result = run(people, rounds=12, schedule=Part("buffered", {"part": 0.3}))
    assert all(len(r.accepted) == 3 for r in result.rounds)
    assert result.rounds[0].notes["staleness"] == 0.0
    ages = [turn.notes["staleness"] for r in result.rounds for turn in r.turns]
    assert max(ages) >= 2
    clock = [r.notes["virtual_s"] for r in result.rounds]
    assert clock == sorted(clock)
    running = [turn.client for r in result.rounds for turn in r.turns]
    assert len(set(running)) > 8


def test_with_the_whole_cohort_and_devices_alike_it_is_synchronous(people):
    """Everybody at once, all of one size: the buffer is the cohort, and nobody is late."""
    assert isinstance(people.data, FederatedData)
    rows = np.arange(10 * 40).reshape(10, 40)
    alike = replace(people, data=FederatedData(people.data.x, people.data.y, list(rows)), clients=10)
    devices = Part("random", {"spread": 0.0, "jitter": 0.0})
    changes = {"cohort": 10, "rounds": 3, "devices": devices}
    waits = run(alike, **changes)
    flows = run(alike, **changes, schedule=Part("buffered", {"part": 1.0}))
    assert [r.model for r in flows.rounds] == [r.model for r in waits.rounds]
    assert [r.notes["virtual_s"] for r in flows.rounds] == pytest.approx([r.notes["virtual_s"] for r in waits.rounds])


def test_old_updates_count_less(people):
    """One client is so slow that its only update is old when it comes; a large power silences it."""
    from nexus.federate.core.schedules.buffered import _aged
    from nexus.federate.core.total import Total

    total = Total({"delta": 2, "steps": 1})
    total.absorb({"delta": np.ones(2, np.float32), "steps": np.ones(1, np.float32)}, 4.0)
    aged = _aged(total, 3, 0.5)
    assert isinstance(aged, Total)
    assert aged.mean("delta") == pytest.approx([0.5, 0.5])
    assert aged.mean("steps") == pytest.approx([1.0])
    models = {
        power: run(people, rounds=8, schedule=Part("buffered", {"power": power})).rounds[-1].model
        for power in (0.0, 0.5)
    }
    assert models[0.0] != models[0.5]


@pytest.mark.parametrize("algorithm", ["scaffold", "fednova", "fedadam"])
def test_algorithms_keep_their_memory_under_it(algorithm, people):
    result = run(people, algorithm=algorithm, rounds=40, schedule=Part("buffered", {"part": 0.5}))
    assert result.rounds[-1].metrics["accuracy"] > 0.6


def test_it_goes_with_a_defence_in_any_number_of_workers(people):
    changes = {"rounds": 5, "schedule": Part("buffered", {"part": 0.5}), "defence": Part("median")}
    one, two = run(people, **changes), run(people, 2, **changes)
    assert [r.model for r in one.rounds] == [r.model for r in two.rounds]


def test_those_who_fail_make_room_for_others(people):
    result = run(people, rounds=20, schedule=Part("buffered"), devices=Part("random", {"drop": 0.3}), lost_after_s=1.0)
    dropped = [turn for r in result.rounds for turn in r.turns if turn.outcome is Outcome.DROPPED]
    assert dropped
    assert all(len(r.accepted) == 3 for r in result.rounds)


# --------------------------------------------------------------------------- hierarchical


def test_one_group_that_averages_once_is_plain_rounds(people):
    plain = run(people, rounds=3)
    grouped = run(people, rounds=3, schedule=Part("hierarchical", {"groups": 1, "times": 1}))
    assert [r.model for r in grouped.rounds] == [r.model for r in plain.rounds]


def test_groups_that_average_once_sum_up_to_the_same(people):
    plain = run(people, rounds=2)
    grouped = run(people, rounds=2, schedule=Part("hierarchical", {"groups": 4, "times": 1}))
    np.testing.assert_allclose(grouped.model, plain.model, atol=1e-5)


def test_averaging_within_groups_gets_further_in_the_same_global_rounds(people):
    loss = {
        times: run(people, rounds=8, schedule=Part("hierarchical", {"groups": 2, "times": times})).rounds[-1].metrics
        for times in (1, 4)
    }
    assert loss[4]["loss"] < loss[1]["loss"] / 2


@pytest.mark.parametrize("algorithm", ["scaffold", "fedadam"])
def test_what_an_algorithm_keeps_goes_through_groups(algorithm, people):
    result = run(people, rounds=10, algorithm=algorithm, schedule=Part("hierarchical"))
    assert result.rounds[-1].metrics["accuracy"] > 0.8


def test_a_group_without_a_quorum_is_left_out(people):
    changes = {"rounds": 6, "cohort": 20, "devices": Part("random", {"drop": 0.15}), "quorum": 0.7}
    result = run(people, **changes, schedule=Part("hierarchical", {"groups": 3, "times": 1}))
    reasons = {turn.reason for r in result.rounds for turn in r.turns if turn.outcome is Outcome.DROPPED}
    assert reasons == {"its device failed", "its group had no quorum"}
    assert all(len(r.accepted) >= 1 for r in result.rounds)
    with pytest.raises(JobError, match="are needed"):
        run(people, rounds=30, devices=Part("random", {"drop": 0.9}), schedule=Part("hierarchical"))


# --------------------------------------------------------------------------- gossip


def test_mixing_is_symmetric_and_keeps_the_mean():
    ring = metropolis(5, [(i, (i + 1) % 5) for i in range(5)])
    np.testing.assert_allclose(ring, ring.T)
    np.testing.assert_allclose(ring.sum(axis=1), 1.0, rtol=1e-6)
    assert ring[0].tolist() == pytest.approx([1 / 3, 1 / 3, 0, 0, 1 / 3])
    star = metropolis(4, [(0, i) for i in (1, 2, 3)])
    assert star[1].tolist() == pytest.approx([0.25, 0.75, 0, 0])
    assert metropolis(1, []).tolist() == [[1.0]]
    assert metropolis(2, [(0, 1), (1, 0)]).tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_pushing_shares_out_all_there_is_and_ends_at_the_mean():
    values, mass = np.array([0.0, 4.0, 8.0, 0.0], np.float32), np.ones(4, np.float32)
    for turn in range(60):
        matrix = pushed(4, peers(4, 1, turn))
        np.testing.assert_allclose(matrix.sum(axis=0), 1.0, rtol=1e-6)
        values, mass = matrix @ values, matrix @ mass
    np.testing.assert_allclose(values / mass, 3.0, rtol=1e-4)


def test_more_neighbours_agree_sooner(people):
    changes = {"rounds": 6, "cohort": 20}
    apart = {
        name: run(people, **changes, schedule=Part(name)).rounds[-1].notes["consensus"]
        for name in ("ring", "random", "complete")
    }
    assert apart["ring"] > apart["random"] > apart["complete"]
    assert apart["complete"] < 1e-4, "everybody has the mean of all"


def test_all_with_all_is_federated_averaging_without_a_server(people):
    assert isinstance(people.data, FederatedData)
    rows = np.arange(10 * 40).reshape(10, 40)
    alike = replace(people, data=FederatedData(people.data.x, people.data.y, list(rows)), clients=10)
    server = run(alike, rounds=3, cohort=10)
    nobody = run(alike, rounds=3, cohort=10, schedule=Part("complete"))
    np.testing.assert_allclose(nobody.model, server.model, atol=1e-5)


@pytest.mark.parametrize("name", ["ring", "random", "pushsum"])
def test_they_learn_without_a_server(name, people):
    result = run(people, rounds=20, cohort=20, schedule=Part(name))
    assert result.rounds[-1].metrics["accuracy"] > 0.7
    model_b = result.worker.begin().model.nbytes
    ups = [turn.bytes_up for turn in result.rounds[-1].turns]
    assert min(ups) >= model_b
    assert (max(ups) < 20 * model_b) and all(up % model_b == 0 for up in ups)


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "ring", "algorithm": "scaffold"},
        {"schedule": "ring", "compression": "top_k"},
        {"schedule": "pushsum", "defence": "median"},
        {"schedule": "sync", "schedule.over": "1.5"},
        {"schedule": "sync", "schedule.over": "0.5"},
        {"schedule": "buffered", "schedule.part": "0"},
        {"schedule": "hierarchical", "schedule.groups": "0"},
        {"schedule": "buffered", "privacy": "central"},
        {"devices": "random", "secure_aggregation": "secagg"},
        {"devices": "random", "devices.drop": "1"},
        {"schedule": "random", "schedule.degree": "0"},
    ],
)
def test_what_does_not_go_together_is_refused(changes):
    with pytest.raises(UsageError) as caught:
        check(override(Settings(), changes), 20)
    assert caught.value.hint


# --------------------------------------------------------------------------- every option


@pytest.mark.parametrize(("name", "option"), [(n, o) for n in SCHEDULES for o in options_of(SCHEDULES.get(n))])
def test_every_option_of_a_schedule_changes_the_model(name, option, people):
    usual = options_of(SCHEDULES.get(name))[option]
    changes = {"rounds": 4, "devices": Part("random")}
    results = [run(people, **changes, schedule=Part(name, {option: value})) for value in (usual, usual * 2)]
    assert results[0].rounds[-1].model != results[1].rounds[-1].model


@pytest.mark.parametrize("option", list(options_of(RandomDevices)))
def test_every_option_of_devices_changes_the_time(option, people):
    usual = {"drop": 0.2, "away": 0.3, "period_s": 1.0}
    value = (options_of(RandomDevices) | usual)[option]
    clocks = []
    for part in (usual, usual | {option: value * 1.5}):
        result = run(people, rounds=8, lost_after_s=0.1, schedule=Part("buffered"), devices=Part("random", part))
        clocks.append([record.notes["virtual_s"] for record in result.rounds])
    assert clocks[0] != clocks[1]


# --------------------------------------------------------------------------- going on in the middle


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_the_state_and_the_rounds_are_enough_to_go_on(name, people):
    """What a schedule remembers lies in the state: half a run continued is the whole run."""
    from nexus.federate.adapters.ground import ground
    from nexus.federate.adapters.inline import Inline
    from nexus.federate.core.chain import recorded
    from nexus.federate.core.worker import Worker
    from nexus.infra.clock import SystemClock

    settings = replace(people.settings, rounds=6, schedule=Part(name), devices=Part("random"))
    whole = run(people, rounds=6, schedule=Part(name), devices=Part("random"))
    worker = Worker(people, settings, SystemClock())
    rounds: list[Round] = []
    state = worker.begin()
    for count in (3, 3):
        engine = Inline(worker, state)
        schedule = worker.composition.schedule
        ends = schedule.run(ground(worker, people, state, engine.round), state, rounds)
        for _ in range(count):
            ended = next(ends)
            rounds.append(recorded(worker.composition, state, ended.state, ended.turns, started=0, notes=ended.notes))
            state = ended.state
    assert [r.model for r in rounds] == [r.model for r in whole.rounds]
    assert [r.notes for r in rounds] == [r.notes for r in whole.rounds]
