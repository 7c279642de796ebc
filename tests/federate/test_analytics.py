"""Questions to data that stays where it is: the answer is that of all data in one place, as exactly as was promised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nexus import federate
from nexus.federate.core.analytics import QUERIES
from nexus.federate.core.options import make
from nexus.federate.core.task import Task
from nexus.federate.model import Part
from nexus.federate.simulation import Simulation, simulate
from nexus.kernel.errors import NexusError, UsageError
from tests.federate.tasks import Silos

pytestmark = pytest.mark.torch

CLIENTS = 12
DICE = np.random.default_rng(0)
NUMBERS = [DICE.normal(1000.0 + 10 * client, 5.0, size=int(DICE.integers(5, 90))) for client in range(CLIENTS)]
EVERYTHING = np.concatenate(NUMBERS)
COMMON = ["apple", "ærø", "pear"]
WORDS = [[*COMMON, *(f"fruit{int(n)}" for n in DICE.geometric(0.02, size=40)), f"only{c}"] for c in range(CLIENTS)]
COUNTED = Counter(word for words in WORDS for word in words)
HOLDERS = Counter(word for words in WORDS for word in set(words))


def columns(client: int) -> Mapping[str, Any]:
    return {"number": NUMBERS[client], "word": WORDS[client]}


def asked(query: str, **options: float) -> Task:
    column = "word" if QUERIES.get(query).words else "number"
    return federate.ask(columns, query, column=column, clients=CLIENTS, **options)


def run(task: Task, workers: int = 1, **changes: Any) -> Simulation:
    return simulate(task, replace(task.settings, **changes), workers=workers)


def answer(query: str, **options: float) -> dict[str, float]:
    return run(asked(query, **options)).rounds[-1].notes


def values(found: Mapping[str, float]) -> dict[str, float]:
    return {name.removeprefix("value/"): count for name, count in found.items() if name.startswith("value/")}


# --------------------------------------------------------------------------- numbers


def test_mean_and_variance_are_those_of_all_values():
    found = answer("mean")
    assert found["count"] == len(EVERYTHING)
    assert found["mean"] == pytest.approx(EVERYTHING.mean(), rel=1e-6)
    assert found["variance"] == pytest.approx(EVERYTHING.var(), rel=1e-4)


def test_bounds_hold_what_one_client_can_do():
    found = answer("mean", low=1000, high=1010)
    assert found["mean"] == pytest.approx(EVERYTHING.clip(1000, 1010).mean(), rel=1e-6)


def test_each_lets_no_client_count_for_more_than_that_many_values():
    sizes = np.array([min(len(one), 10) for one in NUMBERS])
    found = answer("mean", each=10)
    assert found["count"] == pytest.approx(sizes.sum())
    wanted = sum(one.mean() * size for one, size in zip(NUMBERS, sizes, strict=True)) / sizes.sum()
    assert found["mean"] == pytest.approx(wanted, abs=5)


def test_a_histogram_counts_as_numpy_does():
    found = answer("histogram", low=1000, high=1100, bins=7)
    counts, _ = np.histogram(EVERYTHING, bins=7, range=(1000, 1100))
    wanted = [(EVERYTHING < 1000).sum(), *counts, (EVERYTHING > 1100).sum()]
    assert list(found.values()) == wanted


@pytest.mark.parametrize("q", [0.0, 0.1, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("shift", [0.0, -1050.0, -3000.0])
def test_a_quantile_is_within_its_error(q, shift):
    def shifted(client: int) -> Mapping[str, Any]:
        return {"number": NUMBERS[client] + shift}

    task = federate.ask(shifted, "quantile", column="number", clients=CLIENTS, q=q)
    found = run(task).rounds[-1].notes
    wanted = np.quantile(EVERYTHING + shift, q, method="inverted_cdf")
    assert abs(found["quantile"] - wanted) <= found["error"] + 1e-3
    assert found["error"] < 0.02
    assert found["count"] == len(EVERYTHING)


def test_more_steps_and_bins_are_nearer():
    errors = [answer("quantile", steps=steps, bins=bins)["error"] for steps, bins in ((2, 8), (3, 8), (3, 32))]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] / errors[1] == pytest.approx(8, rel=0.01)


# --------------------------------------------------------------------------- words


def test_frequency_union_and_intersection_are_exact():
    found = answer("frequency")
    assert (values(found), found["unread"]) == (dict(COUNTED), 0)
    assert values(answer("union")) == dict(HOLDERS)
    assert values(answer("union", least=2)) == {word: count for word, count in HOLDERS.items() if count >= 2}
    everybody = {word: count for word, count in HOLDERS.items() if count == CLIENTS}
    assert values(answer("intersection")) == everybody
    assert set(COMMON) <= set(everybody)


def test_few_cells_leave_words_unread_and_another_step_reads_more():
    found = [answer("frequency", cells=64, steps=steps) for steps in (1, 3, 9)]
    read = [len(values(one)) for one in found]
    assert read == sorted(read)
    assert read[0] < read[1] < len(COUNTED)
    assert found[0]["unread"] > 0
    assert all(values(found[-1])[word] == COUNTED[word] for word in values(found[-1]))


@pytest.mark.parametrize(("different", "registers"), [(40, 1024), (3000, 1024), (20_000, 512)])
def test_cardinality_is_within_three_standard_errors(different, registers):
    def many(client: int) -> Mapping[str, Any]:
        return {"id": np.arange(client * different // 6, (client + 2) * different // 6)}  # each is with two clients

    found = run(federate.ask(many, "cardinality", column="id", clients=5, registers=registers)).rounds[-1].notes
    assert abs(found["different"] - different) <= 3 * found["error"]
    assert found["error"] / found["different"] == pytest.approx(1.04 / registers**0.5)


def test_heavy_hitters_are_found_and_rare_words_are_not():
    said = ["yes"] * 60 + ["yesterday"] * 25 + ["no"] * 40 + [f"x{n}" for n in range(60)]
    people = np.random.default_rng(1).permutation(said)
    task = federate.ask(
        lambda c: {"word": [people[c]]}, "heavy_hitters", column="word", clients=len(said), threshold=10
    )
    result = run(task)
    assert values(result.rounds[-1].notes) == {"yes": 60, "no": 40, "yesterday": 25}
    higher = replace(task.settings, query=Part("heavy_hitters", {"threshold": 30}))
    assert values(simulate(task, higher, workers=1).rounds[-1].notes) == {"yes": 60, "no": 40}
    shorter = replace(task.settings, query=Part("heavy_hitters", {"threshold": 10, "longest": 5}), rounds=6)
    assert set(values(simulate(task, shorter, workers=1).rounds[-1].notes)) == {"yes", "no"}


def test_trie_says_what_its_sampling_promises():
    query = make(QUERIES.get("heavy_hitters"), "heavy_hitters", {"threshold": 10})
    promised = query._privacy(10_000, 300)
    assert promised["epsilon"] == pytest.approx(11 * np.log(1 + 1 / (100 / 30 - 1)))
    assert promised["delta"] < 1e-6
    assert query._privacy(10_000, 3000) == {}, "too many voters for the theorem"
    assert query._privacy(10_000, 120)["epsilon"] < promised["epsilon"]


# --------------------------------------------------------------------------- the same path as updates


@pytest.mark.parametrize("query", QUERIES.names())
def test_the_answer_is_the_same_for_any_number_of_workers(query):
    one, two = (run(asked(query), workers) for workers in (1, 2))
    assert one.rounds[-1].notes == two.rounds[-1].notes
    assert [record.model for record in one.rounds] == [record.model for record in two.rounds]


@pytest.mark.parametrize("query", QUERIES.names())
def test_wrong_options_are_refused(query):
    for options in ({"each": -1}, {"nonsense": 1}):
        with pytest.raises(UsageError) as caught:
            asked(query, **options)
        assert caught.value.hint


def test_columns_and_kinds_that_are_not_there():
    for column, query in (("nothing", "mean"), ("word", "mean")):
        with pytest.raises(NexusError, match=column):
            run(federate.ask(columns, query, column=column, clients=CLIENTS))
    with pytest.raises(UsageError, match="33 bytes"):
        run(federate.ask(lambda _: {"w": ["x" * 33]}, "union", column="w", clients=2))


def test_noise_is_added_and_less_of_it_is_nearer():
    """Client-level privacy is the same layer that protects training."""
    options = {"low": 900.0, "high": 1300.0, "each": 20}
    task, wanted = asked("mean", **options), EVERYTHING.mean()

    def off(noise: float) -> float:
        privacy = Part("central", {"clip": 1.8, "noise": noise})
        seeds = [run(task, privacy=privacy, seed=seed).rounds[-1].notes["mean"] for seed in range(6)]
        return float(np.mean([abs(seed - wanted) for seed in seeds]))

    assert off(0.01) < off(3.0)


def test_a_run_over_the_network_gives_the_answer_of_the_simulation(tmp_path):
    app = tmp_path / "asks.py"
    app.write_text(
        "import numpy as np\nfrom nexus import federate\n"
        "def columns(client):\n    return {'age': np.arange(client, client + 9) / 2}\n"
        "task = federate.ask(columns, 'quantile', column='age', clients=6, q=0.25)\n"
    )
    from nexus.federate.adapters.loader import load_task

    wanted = run(load_task(app)).rounds
    silos = Silos(tmp_path / "run", app=app)
    try:
        silos.start_all()
        for name in silos.processes:
            assert silos.wait(name) == 0, silos.log(name)
        assert [record.notes for record in silos.rounds()] == [record.notes for record in wanted]
    finally:
        silos.close()
