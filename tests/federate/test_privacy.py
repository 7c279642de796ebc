"""Differential privacy: noise of the size it says, one client within `clip`, a budget that ends the run."""

from __future__ import annotations

import math
import secrets
from dataclasses import replace

import numpy as np
import pytest

from nexus.federate.core.composition import compose
from nexus.federate.core.draws import Draws, Sampling
from nexus.federate.core.privacy.accounting import Spending, epsilon
from nexus.federate.core.privacy.clipping import clipped, norm
from nexus.federate.core.privacy.noise import gaussian, laplace
from nexus.federate.core.settings import check, override
from nexus.federate.core.total import Total
from nexus.federate.model import Part
from nexus.federate.simulation import Simulation, simulate
from nexus.kernel.errors import UsageError

pytestmark = pytest.mark.torch
KEY = bytes(range(32))


def run(task, name: str, /, *, rounds: int = 8, **options: float) -> Simulation:
    settings = replace(task.settings, rounds=rounds, privacy=Part(name, options))
    return simulate(task, settings, workers=1)


def spent(noise: float, rounds: int, sampling: Sampling = Sampling.OTHER, cohort: int = 1, clients: int = 1) -> float:
    return epsilon(Spending(noise, 1e-5, sampling, cohort, clients), rounds)


# --------------------------------------------------------------------------- noise


@pytest.mark.parametrize(("draw", "deviation"), [(gaussian, 3.0), (laplace, 3.0 * math.sqrt(2))])
def test_noise_has_the_size_it_says_and_no_pattern(draw, deviation):
    from scipy import stats

    values = draw(200_001, 3.0, KEY).astype(np.float64)
    assert abs(values.mean()) < 4 * deviation / math.sqrt(len(values))
    assert values.std() == pytest.approx(deviation, rel=0.015)
    law = stats.norm(0, 3.0) if draw is gaussian else stats.laplace(0, 3.0)
    assert stats.kstest(values, law.cdf).pvalue > 0.001
    halves = values[: 65_536 // 2], values[65_536 // 2 : 65_536]  # the two of a Box-Muller pair
    assert abs(np.corrcoef(*halves)[0, 1]) < 0.03
    assert abs(np.corrcoef(np.abs(halves[0]), np.abs(halves[1]))[0, 1]) < 0.03
    assert (draw(100, 3.0, KEY) == draw(100, 3.0, KEY)).all()
    assert (draw(100, 3.0, KEY) != draw(100, 3.0, KEY[::-1])).all()


def test_real_runs_draw_noise_that_no_seed_tells():
    real, simulated = Draws(secret=secrets.token_bytes), Draws()
    assert simulated.key(1, "a") == simulated.key(1, "a") != simulated.key(2, "a")
    assert real.key(1, "a") != real.key(1, "a")
    assert real.key(1, "a", seeded=True) == simulated.key(1, "a")


def test_the_sum_gets_noise_of_noise_times_clip_once(digits):
    composition = compose(replace(digits.settings, privacy=Part("central", {"clip": 2.0, "noise": 3.0})))
    state = composition.begin(np.zeros(100_000, np.float32), trainable=100_000, clients=20)
    total = Total.of({"delta": np.zeros(100_000, np.float32)}, weight=10.0, count=10)
    model = composition.algorithm.advance(state, total).model
    assert model.std() == pytest.approx(2.0 * 3.0 / 10, rel=0.02)


# --------------------------------------------------------------------------- clipping


@pytest.mark.parametrize("order", [1, 2])
def test_clipping_bounds_all_vectors_together_and_again_changes_nothing(order):
    dice = np.random.default_rng(1)
    for scale in (1e-6, 0.01, 1.0, 1e6):
        update = {name: (dice.normal(size=size) * scale).astype(np.float32) for name, size in (("a", 70_000), ("b", 3))}
        once = clipped(update, 1.0, order)
        assert norm(once, order) <= 1.0
        twice = clipped(once, 1.0, order)
        assert all((twice[name] == once[name]).all() for name in update)
        if norm(update, order) > 1:
            assert norm(once, order) == pytest.approx(1.0, rel=1e-5)
        else:
            assert all((once[name] == update[name]).all() for name in update)


@pytest.mark.parametrize("name", ["central", "adaptive"])
def test_whatever_one_client_sends_it_moves_the_sum_by_clip_at_most(name, digits):
    composition = compose(replace(digits.settings, privacy=Part(name, {"clip": 0.5, "noise": 0.0})))
    state = composition.begin(np.zeros(50, np.float32), trainable=50, clients=20)
    plan = composition.algorithm.plan(state)
    huge = {key: np.full(size, 1e20, np.float32) for key, size in composition.algorithm.sends(state).items()}
    counted = composition.algorithm.received(plan, huge)
    assert norm({"delta": counted["delta"]}) <= 0.5
    assert all(abs(v).max() <= 0.5 for k, v in counted.items() if k != "delta")


def test_clipping_holds_off_clients_that_shout(digits):
    attack = Part("sign_flip", {"part": 0.2, "scale": 100.0})
    ruined = simulate(digits, replace(digits.settings, rounds=6, attack=attack), workers=1)
    held = simulate(
        digits,
        replace(digits.settings, rounds=6, attack=attack, privacy=Part("central", {"clip": 1.0, "noise": 0.0})),
        workers=1,
    )
    assert held.rounds[-1].metrics["accuracy"] > ruined.rounds[-1].metrics["accuracy"]
    assert held.rounds[-1].metrics["loss"] < 3
    assert not ruined.rounds[-1].metrics["loss"] < 300, "far off, or not a number"


# --------------------------------------------------------------------------- what it costs, what it buys


@pytest.mark.parametrize("name", ["central", "local", "local_laplace"])
def test_more_noise_is_less_accurate_and_more_private(name, digits):
    scale = {"central": 1.0, "local": 0.2, "local_laplace": 0.02}[name]
    clip = {"local_laplace": 20.0}.get(name, 1.0)
    runs = [run(digits, name, rounds=5, clip=clip, noise=scale * noise) for noise in (0.1, 2.0, 50.0)]
    losses = [one.rounds[-1].metrics["loss"] for one in runs]
    assert losses == sorted(losses)
    epsilons = [one.rounds[-1].notes["epsilon"] for one in runs]
    assert epsilons == sorted(epsilons, reverse=True)
    assert losses[-1] > 1.2 * losses[0]


def test_without_noise_nothing_is_promised(digits):
    assert "epsilon" not in run(digits, "central", rounds=1, noise=0.0).rounds[0].notes
    with pytest.raises(UsageError, match="needs noise"):
        run(digits, "central", rounds=1, noise=0.0, epsilon=1.0)


def test_the_clip_norm_finds_the_quantile_of_the_updates(digits):
    """From far below and from far above, towards each other; a higher quantile is a larger norm."""

    def last(clip: float, quantile: float = 0.5) -> float:
        options = {"clip": clip, "noise": 0.0, "quantile": quantile, "rate": 1.2}
        return run(digits, "adaptive", rounds=8, **options).rounds[-1].notes["clip"]

    low, high = last(0.05), last(20.0)
    assert 0.25 < high <= low < 1.0
    assert last(0.05, quantile=0.9) > low


# --------------------------------------------------------------------------- accounting


def test_epsilon_is_what_is_known_of_the_gaussian_mechanism():
    """RDP of one Gaussian: min over a of a / (2 z^2) + conversion; here by hand, as Canonne et al. 2020 convert."""
    for z, rounds in ((1.0, 1), (2.0, 10), (5.0, 100)):
        orders = np.linspace(1.01, 200, 200_000)
        rho = rounds * orders / (2 * z * z)
        by_hand = (rho + np.log1p(-1 / orders) - (np.log(1e-5) + np.log(orders)) / (orders - 1)).min()
        assert spent(2 * z, rounds) == pytest.approx(by_hand, rel=0.01)


def test_epsilon_is_the_accountants_for_each_way_to_draw():
    import dp_accounting as dp

    fixed = dp.rdp.RdpAccountant(neighboring_relation=dp.NeighboringRelation.REPLACE_ONE)
    fixed.compose(dp.SampledWithoutReplacementDpEvent(1000, 50, dp.GaussianDpEvent(1.0)), 100)
    assert spent(2.0, 100, Sampling.FIXED, 50, 1000) == pytest.approx(fixed.get_epsilon(1e-5))
    poisson = dp.rdp.RdpAccountant()
    poisson.compose(dp.PoissonSampledDpEvent(0.05, dp.GaussianDpEvent(2.0)), 100)
    assert spent(2.0, 100, Sampling.POISSON, 50, 1000) == pytest.approx(poisson.get_epsilon(1e-5))
    assert spent(2.0, 100, Sampling.OTHER, 50, 1000) > 3 * spent(2.0, 100, Sampling.FIXED, 50, 1000)
    assert spent(2.0, 0) == 0.0


def test_what_was_spent_only_grows_and_the_budget_ends_the_run_before_it_is_exceeded(digits):
    free = run(digits, "central", rounds=8, noise=4.0).rounds
    epsilons = [record.notes["epsilon"] for record in free]
    assert epsilons == sorted(epsilons)
    assert len(set(epsilons)) == 8
    budget = (epsilons[4] + epsilons[5]) / 2
    ended = run(digits, "central", rounds=8, noise=4.0, epsilon=budget)
    bound = ended.rounds
    assert "the privacy budget is spent: after round 6 epsilon would be" in ended.over
    assert len(bound) == 5
    assert bound[-1].notes["epsilon"] <= budget < epsilons[5]
    assert [record.model for record in bound] == [record.model for record in free[:5]]


def test_a_budget_for_no_round_at_all_is_said_at_once(digits):
    with pytest.raises(UsageError, match="budget is spent: after round 1"):
        run(digits, "central", noise=0.5, epsilon=0.1)


@pytest.mark.parametrize(
    "options", [{"clip": 0.0}, {"noise": -1.0}, {"delta": 1.0}, {"epsilon": -2.0}, {"clip": math.inf}]
)
def test_options_that_mean_nothing_are_refused(options, digits):
    with pytest.raises(UsageError, match="privacy") as caught:
        check(replace(digits.settings, privacy=Part("central", options)), 20)
    assert caught.value.hint


@pytest.mark.parametrize("options", [{"quantile": 1.0}, {"rate": 0.0}, {"counting": 0.2, "noise": 1.0}])
def test_adaptive_options_that_mean_nothing_are_refused(options, digits):
    with pytest.raises(UsageError, match="privacy"):
        check(replace(digits.settings, privacy=Part("adaptive", options)), 20)


def test_poisson_divides_by_whom_it_expected():
    from nexus.federate.core.privacy.central import Central

    layer = Central(noise=0.0, draws=Draws(Sampling.POISSON, cohort=4))
    state = layer.begin(np.zeros(3, np.float32), trainable=3, clients=9)
    total = Total.of({"delta": np.ones(3, np.float32)}, weight=2.0, count=2)
    np.testing.assert_allclose(layer.advance(state, total).model, 0.25)


def test_options_come_from_the_command_line(digits):
    changed = override(digits.settings, {"privacy": "central", "privacy.epsilon": "3", "privacy.clip": "0.5"})
    assert changed.privacy == Part("central", {"epsilon": 3.0, "clip": 0.5})
