"""Contributions: what the Shapley value must fulfil, and that bad clients are found at the bottom."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from nexus.federate.adapters.loader import load_task
from nexus.federate.core.contribution import CONTRIBUTIONS
from nexus.federate.core.contribution.measure import summed
from nexus.federate.core.defence import Scene
from nexus.federate.core.options import make
from nexus.federate.core.seeds import is_bad
from nexus.federate.core.stack import Stack
from nexus.federate.model import Part
from nexus.federate.simulation import simulate
from nexus.kernel.errors import UsageError
from tests.federate.tasks import REPOSITORY

pytestmark = pytest.mark.torch
NAMES = CONTRIBUTIONS.names()
SHAPLEY = ("gtg_shapley", "mr_shapley")
SCENE = Scene(number=1, clients=9, model=np.zeros(1, np.float32), seed=4)


class Counted:
    """A game by the sum of chosen clients' worth, with a bonus for two of them together."""

    def __init__(self, worth: list[float], bonus: float = 0.0) -> None:
        self.worth = np.array(worth)
        self.bonus = bonus
        self.asked = 0

    def __call__(self, weights):
        self.asked += 1
        here = weights > 0
        return {"accuracy": float(self.worth @ here) + self.bonus * bool(here[0] and here[1]), "loss": 1.0}


def measure(name: str, game: Counted, **options: float) -> list[float]:
    count = len(game.worth)
    stack = Stack(range(count), [1.0] * count, [{"delta": np.zeros(1, np.float32)}] * count)
    notes = make(CONTRIBUTIONS.get(name), name, options).measure(stack, game, SCENE)
    assert notes[0]["contribution_models"] == game.asked, "no group is looked at twice"
    return [notes[client]["contribution"] for client in range(count)]


@pytest.mark.parametrize("name", NAMES)
def test_worth_that_adds_up_is_found_exactly(name):
    worth = [0.1, 0.2, 0.0, 0.3, -0.1]
    assert measure(name, Counted(worth), **({"eps": 0.0} if name == "gtg_shapley" else {})) == pytest.approx(worth)


@pytest.mark.parametrize("name", SHAPLEY)
def test_shares_sum_up_to_what_was_won_and_a_bonus_is_halved(name):
    found = measure(name, Counted([0.1, 0.1, 0.2, 0.0], bonus=0.4), **({"eps": 0.0} if name == "gtg_shapley" else {}))
    assert sum(found) == pytest.approx(0.8)
    assert found[3] == pytest.approx(0.0)
    assert found[:3] == pytest.approx([0.3, 0.3, 0.2], abs=1e-9 if name == "mr_shapley" else 0.08)


def test_leaving_one_out_makes_twins_worthless_or_both_dear():
    assert measure("leave_one_out", Counted([0.1, 0.1, 0.2], bonus=0.4)) == pytest.approx([0.5, 0.5, 0.2])


def test_gtg_looks_at_fewer_models_and_at_none_when_nothing_changed():
    worth = [0.05 * at for at in range(10)]
    exact, guided, still = Counted(worth), Counted(worth), Counted([0.0] * 10)
    np.testing.assert_allclose(measure("gtg_shapley", guided), measure("mr_shapley", exact), atol=0.01)
    assert exact.asked == 1024
    assert guided.asked < 400
    assert measure("gtg_shapley", still) == [0.0] * 10
    assert still.asked == 2


def test_too_many_clients_for_the_exact_value_are_refused_before_the_work():
    game = Counted([0.1] * 15)
    with pytest.raises(UsageError, match=r"2\^15") as caught:
        measure("mr_shapley", game)
    assert "gtg_shapley" in caught.value.hint
    assert game.asked == 0


@pytest.mark.parametrize("name", NAMES)
def test_those_who_poison_are_worth_less_than_the_others(name):
    """Real digits, mildly skewed: where each client knows other digits, that counts for more than a few lies."""
    task = load_task(REPOSITORY / "bench" / "federate_robust.py")
    attack = Part("label_flip", {"part": 0.3, "classes": 10.0})
    settings = replace(
        task.settings, rounds=8, cohort=8, attack=attack, contribution=Part(name, {"by_loss": 1.0}), seed=7
    )
    shares = summed(simulate(task, settings, workers=1).rounds)
    bad = [share for client, share in shares.items() if is_bad(7, client, 0.3)]
    good = [share for client, share in shares.items() if not is_bad(7, client, 0.3)]
    assert len(bad) > 2
    assert np.mean(bad) < np.mean(good)
    assert np.median(bad) < np.median(good)


def test_measuring_changes_no_bit_of_the_model_and_the_sums_are_in_the_result(digits, tmp_path):
    plain = replace(digits.settings, rounds=2)
    measured = replace(plain, contribution=Part("leave_one_out"))
    without, result = (simulate(digits, one, workers=1) for one in (plain, measured))
    assert [r.model for r in without.rounds] == [r.model for r in result.rounds]
    said = json.loads(result.save(tmp_path)["result.json"].read_text())["contribution"]
    assert said == {str(client): pytest.approx(share) for client, share in summed(result.rounds).items()}
    assert len(said) > 10


def test_without_samples_of_the_servers_own_it_is_refused(digits):
    settings = replace(digits.settings, rounds=1, contribution=Part("leave_one_out"))
    with pytest.raises(UsageError, match="own samples"):
        simulate(replace(digits, root=None), settings, workers=1)
