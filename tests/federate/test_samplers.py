"""Who is chosen for a round, and that each way to choose does what it is for."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from nexus.federate.core.parts import build
from nexus.federate.core.samplers import SAMPLERS
from nexus.federate.model import Local, Outcome, Part, Round, Turn
from nexus.kernel.errors import UsageError


def sampler(name: str, **options: float):
    return build("sampler", Part(name, options))


def past(rounds: int, loss=lambda _: 1.0, dropped=frozenset(), clients: int = 20) -> list[Round]:
    """Rounds in which everybody took part."""

    def turn(client: int) -> Turn:
        gone = client in dropped
        return Turn(
            client=client,
            loss=None if gone else loss(client),
            outcome=Outcome.DROPPED if gone else Outcome.ACCEPTED,
        )

    return [Round(number=n, turns=tuple(turn(c) for c in range(clients))) for n in range(1, rounds + 1)]


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_cohorts_are_ascending_without_repetition_and_the_same_again(name):
    before = past(3, loss=lambda client: client / 10, dropped={2, 3})
    for number in range(4, 40):
        one = sampler(name).choose(5, number, 20, 6, before)
        assert one == sampler(name).choose(5, number, 20, 6, before)
        assert list(one) == sorted(set(one))
        assert set(one) <= set(range(20))
        assert 1 <= len(one) <= sampler(name).most(20, 6)
        if name != "poisson":
            assert len(one) == 6
    assert sampler(name).choose(5, 4, 20, 6, before) != sampler(name).choose(6, 4, 20, 6, before)


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_everybody_may_be_asked_for(name):
    if name != "poisson":
        assert sampler(name).choose(1, 1, 7, 7, []) == tuple(range(7))


def test_poisson_draws_each_client_by_itself():
    drawn = [sampler("poisson").choose(1, number, 200, 20, []) for number in range(400)]
    sizes = [len(one) for one in drawn]
    assert np.mean(sizes) == pytest.approx(20, abs=0.7)
    assert np.var(sizes) == pytest.approx(200 * 0.1 * 0.9, rel=0.2), "of a binomial, where a fixed cohort has 0"
    together = np.mean([3 in one and 4 in one for one in drawn])
    assert together == pytest.approx(0.01, abs=0.012), "independent of each other"


def test_poisson_never_gives_an_empty_round():
    assert all(sampler("poisson").choose(1, number, 100, 1, []) for number in range(300))


@pytest.mark.parametrize(("clients", "size"), [(20, 5), (20, 6), (7, 4), (5, 5)])
def test_round_robin_asks_everybody_once_before_anybody_twice(clients, size):
    wheel = sampler("round_robin")
    asked: Counter[int] = Counter()
    for number in range(1, 40):
        asked.update(wheel.choose(3, number, clients, size, []))
        most, least = max(asked.values()), min(asked.get(c, 0) for c in range(clients))
        assert most - least <= 1


def test_uniform_leaves_some_out_that_round_robin_asks():
    def reached(name: str) -> int:
        return len({c for n in range(1, 5) for c in sampler(name).choose(3, n, 20, 5, [])})

    assert reached("round_robin") == 20 > reached("uniform")


@pytest.mark.parametrize("name", ["importance", "power_of_choice"])
def test_a_high_loss_is_chosen_more_often_and_each_option_says_how_much(name):
    before = past(2, loss=lambda client: 3.0 if client >= 15 else 0.5)

    def share(**options: float) -> float:
        chosen = Counter(
            c for number in range(3, 203) for c in sampler(name, **options).choose(1, number, 20, 5, before)
        )
        return sum(chosen[c] for c in range(15, 20)) / chosen.total()

    usual = share()
    assert usual > 0.4, "a quarter would be chance"
    if name == "importance":
        assert share(temperature=0.2) > usual > share(temperature=10.0)
    else:
        assert share(candidates=4.0) > usual > share(candidates=1.0)
        assert share(candidates=1.0) == pytest.approx(0.25, abs=0.05)
    assert share(memory=1) == usual, "the last round tells everything here"


@pytest.mark.parametrize("name", ["importance", "power_of_choice"])
def test_old_losses_are_forgotten(name):
    """Two rounds ago the first five did badly; the last round tells of the others only."""
    two = [past(1, loss=lambda client: 9.0 if client < 5 else 0.1)[0], Round(number=2, turns=())]
    short, long = (sampler(name, memory=memory) for memory in (1, 2))
    assert {c for n in range(3, 30) for c in short.choose(1, n, 20, 5, two)} == set(range(20))
    lean = Counter(c for n in range(3, 103) for c in long.choose(1, n, 20, 5, two))
    assert sum(lean[c] for c in range(5)) > 0.4 * lean.total()


def test_who_told_nothing_yet_comes_first():
    told = past(1, loss=lambda _: 9.0, clients=10)
    chosen = sampler("power_of_choice", candidates=4.0).choose(1, 2, 20, 5, told)
    assert all(client >= 10 for client in chosen)


def test_who_did_not_answer_is_left_alone_ever_longer_and_asked_again():
    gone = {0, 1, 2, 3}
    rounds: list[Round] = []
    asked: Counter[int] = Counter()
    for number in range(1, 101):
        cohort = sampler("available").choose(2, number, 20, 5, rounds)
        asked.update(cohort)
        turns = [Turn(client=c, outcome=Outcome.DROPPED if c in gone else Outcome.ACCEPTED) for c in cohort]
        rounds.append(Round(number=number, turns=tuple(turns)))
    assert all(3 <= asked[client] <= 9 for client in gone), "25 would be chance; each is tried again"
    assert min(asked[c] for c in range(20) if c not in gone) > 15
    back = past(4, dropped=frozenset(gone)) + past(1)
    again = Counter(c for n in range(6, 206) for c in sampler("available").choose(2, n, 20, 5, back))
    assert again[0] > 30, "one answer and it is as good as any"


def test_patience_forgives_drops():
    once = past(1, dropped={0, 1, 2, 3}, clients=20)
    hurried = sampler("available").choose(1, 2, 20, 16, once)
    assert set(hurried) == set(range(4, 20))
    assert set(sampler("available", patience=1).choose(1, 2, 20, 16, once)) & {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("importance", {"temperature": 0.0}),
        ("importance", {"memory": 0.0}),
        ("power_of_choice", {"candidates": 0.5}),
        ("power_of_choice", {"memory": 0.0}),
        ("available", {"patience": -1.0}),
    ],
)
def test_impossible_options_have_a_next_step(name, options):
    with pytest.raises(UsageError) as caught:
        sampler(name, **options)
    assert caught.value.hint


@pytest.mark.torch
@pytest.mark.parametrize(
    ("name", "options"), [("power_of_choice", {"candidates": 4.0}), ("importance", {"temperature": 0.1})]
)
def test_on_real_data_those_are_chosen_whom_the_model_serves_badly(name, options, digits):
    from nexus.federate.simulation import simulate

    def loss(part: Part) -> float:
        """What the chosen clients lost, on average, once every client's loss is known."""
        settings = replace(digits.settings, rounds=16, cohort=4, sampler=part, local=Local(epochs=1, batch=16, lr=0.05))
        rounds = simulate(digits, settings, workers=1).rounds[6:]
        return float(np.mean([turn.loss for record in rounds for turn in record.turns]))

    assert loss(Part(name, options)) > 1.1 * loss(Part("uniform"))
