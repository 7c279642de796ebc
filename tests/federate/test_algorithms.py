"""Every algorithm of the table: it learns, repeats itself, sums in any grouping; each option does what it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nexus.federate.core.algorithm import State
from nexus.federate.core.algorithms import ALGORITHMS, build, options_of
from nexus.federate.core.total import Total
from nexus.federate.core.worker import Worker
from nexus.federate.model import Settings
from nexus.federate.simulation import Simulation, simulate
from nexus.infra.clock import SystemClock

pytestmark = pytest.mark.torch
NAMES = ALGORITHMS.names()


def run(task, **changes) -> Simulation:
    return simulate(task, replace(task.settings, **changes), workers=1)


def with_options(name, **options) -> dict[str, object]:
    return {"algorithm": name, "options": options}


# --------------------------------------------------------------------------- conformance


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_and_repeats_itself(name, digits):
    first = run(digits, algorithm=name)
    assert first.rounds[-1].metrics["accuracy"] > first.rounds[0].metrics["accuracy"] + 0.4
    assert first.rounds[-1].metrics["loss"] < first.rounds[0].metrics["loss"] / 2
    again = run(digits, algorithm=name, rounds=3)
    assert [r.model for r in again.rounds] == [r.model for r in first.rounds[:3]]
    other = run(digits, algorithm=name, rounds=1, seed=8)
    assert other.rounds[0].model != first.rounds[0].model


@pytest.mark.parametrize("name", NAMES)
def test_rounds_form_a_chain(name, digits):
    rounds = run(digits, algorithm=name, rounds=3).rounds
    assert [r.number for r in rounds] == [1, 2, 3]
    assert [r.parent for r in rounds[1:]] == [r.model for r in rounds[:-1]]
    assert all(len(r.accepted) == 10 and r.bytes_up > 0 and r.bytes_down > 0 for r in rounds)


@pytest.mark.parametrize("name", NAMES)
def test_updates_hold_what_was_announced_and_sum_in_any_grouping(name, digits):
    worker = Worker(digits, replace(digits.settings, algorithm=name), SystemClock())
    state = worker.begin()
    plan, lengths = worker.algorithm.plan(state), worker.algorithm.sends(state)
    kept = {key: np.zeros(length, np.float32) for key, length in worker.algorithm.keeps(state).items()}
    steps = []
    for client in range(4):
        turn, step = worker.turn(1, client, plan, kept)
        assert {key: len(vector) for key, vector in step.send.items()} == lengths
        assert {key: len(vector) for key, vector in step.keep.items()} == {k: len(v) for k, v in kept.items()}
        assert all(vector.dtype == np.float32 for vector in (*step.send.values(), *step.keep.values()))
        steps.append((worker.algorithm.weight(turn.samples), {k: v.copy() for k, v in step.send.items()}))

    def total(*groups: list[int]) -> State:
        whole = Total(lengths)
        for group in groups:
            part = Total(lengths)
            for index in group:
                part.absorb(steps[index][1], steps[index][0])
            whole.merge(part)
        return worker.algorithm.advance(state, whole)

    one = total([0, 1, 2, 3])
    for other in (total([0], [1], [2], [3]), total([0, 1], [2, 3]), total([3, 2], [1, 0])):
        np.testing.assert_allclose(other.model, one.model, atol=2e-5)
        assert other.number == 1
    assert one.model.dtype == np.float32
    assert all(vector.dtype == np.float32 for vector in one.extra.values())


@pytest.mark.parametrize(("name", "option"), [(n, o) for n in NAMES for o in options_of(n)])
def test_every_option_changes_the_model(name, option, digits):
    usual = run(digits, algorithm=name, rounds=2)
    changed = run(digits, **with_options(name, **{option: options_of(name)[option] * 0.5}), rounds=2)
    assert changed.rounds[-1].model != usual.rounds[-1].model


# --------------------------------------------------------------------------- in the right direction


def drift(task, name, **options) -> float:
    """How far clients go from where they started, on average, in the first round."""
    worker = Worker(task, replace(task.settings, **with_options(name, **options)), SystemClock())
    state = worker.begin()
    plan = worker.algorithm.plan(state)
    kept = {key: np.zeros(length, np.float32) for key, length in worker.algorithm.keeps(state).items()}
    steps = [worker.turn(1, client, plan, kept)[1] for client in range(10)]
    # deltas share one buffer, so each is measured as it comes
    return float(np.mean([np.linalg.norm(worker.turn(1, c, plan, kept)[1].send["delta"]) for c in range(len(steps))]))


def test_fedprox_holds_clients_nearer_the_larger_mu_is(skewed):
    drifts = [drift(skewed, "fedprox", mu=mu) for mu in (0.0, 0.1, 1.0, 5.0)]
    assert drifts == sorted(drifts, reverse=True)
    assert drifts[-1] < drifts[0] / 3
    assert drifts[0] == drift(skewed, "fedavg"), "mu = 0 is FedAvg"


@pytest.fixture(scope="module")
def under_skew(skewed) -> dict[str, Simulation]:
    return {name: run(skewed, algorithm=name, rounds=30) for name in ("fedavg", "scaffold")}


def test_scaffold_needs_fewer_rounds_than_fedavg_under_strong_skew(under_skew):
    def rounds_to(name: str, accuracy: float) -> int:
        reached = [r.metrics["accuracy"] for r in under_skew[name].rounds]
        return next((number for number, value in enumerate(reached, 1) if value >= accuracy), 99)

    assert 2 * rounds_to("scaffold", 0.85) <= rounds_to("fedavg", 0.85) <= 30


def test_scaffold_learns_the_drift_away(under_skew):
    """Without correction each client fits its one digit (a tiny local loss) and forgets the others."""

    def local_loss(name: str) -> float:
        return float(np.mean([turn.loss or 0.0 for turn in under_skew[name].rounds[-1].turns]))

    assert local_loss("scaffold") > 2 * local_loss("fedavg")


def test_fedadam_gets_further_than_fedavg_in_the_same_rounds(digits):
    adam, plain = run(digits, algorithm="fedadam"), run(digits, algorithm="fedavg")
    assert adam.rounds[-1].metrics["accuracy"] > 0.9 > plain.rounds[-1].metrics["accuracy"]


def test_the_servers_rate_scales_the_step(digits):
    start = Worker(digits, digits.settings, SystemClock()).begin().model
    whole, half = (run(digits, **with_options("fedavg", lr=lr), rounds=1).model - start for lr in (1.0, 0.5))
    np.testing.assert_allclose(half, whole / 2, atol=1e-6)


def test_defaults_of_the_file_are_used(digits):
    assert isinstance(digits.settings, Settings)
    assert build("scaffold", {}).weight(7) == 1.0
    assert build("fedavg", {}).weight(7) == 7.0
