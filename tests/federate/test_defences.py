"""Defences: each against numbers worked out by hand, and the properties that make it one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.federate.core.defence import Combined, Scene
from nexus.federate.core.defences import DEFENCES
from nexus.federate.core.mixture import SKETCH, cosines, sketches
from nexus.federate.core.options import make
from nexus.federate.core.stack import Stack
from nexus.kernel.errors import UsageError

NEEDS_ROOT = {"zeno", "fltrust"}
NOISY = {"weak_dp", "crfl"}
NAMES = [name for name in DEFENCES if name not in NEEDS_ROOT]


class Eye:
    """A server that knows where the optimum is."""

    def __init__(self, optimum: Sequence[float]) -> None:
        self.optimum = np.array(optimum, np.float32)

    def score(self, model):
        return {"loss": float(((model - self.optimum) ** 2).sum())}

    def fit(self, model, number):
        return self.optimum - model


def stack_of(rows: Sequence[Sequence[float]], weights: Sequence[float] = ()) -> Stack:
    vectors = [{"delta": np.array(row, np.float32)} for row in rows]
    return Stack(range(len(rows)), list(weights) or [1.0] * len(rows), vectors)


def combine(name: str, stack: Stack, memory=None, eye=None, **options: float) -> Combined:
    defence = make(DEFENCES.get(name), name, options)
    lengths = defence.keeps(stack.lengths, 32)
    kept = memory or {key: np.zeros(length, np.float32) for key, length in lengths.items()}
    model = np.zeros(stack.lengths["delta"], np.float32)
    found: Combined = defence.combine(stack, kept, Scene(number=1, clients=32, model=model, seed=5, judge=eye))
    return found


def mean(name: str, rows: Sequence[Sequence[float]], **options: float) -> np.ndarray:
    return combine(name, stack_of(rows), **options).total.mean("delta")


def rejected(found: Combined) -> list[int]:
    return [client for client, notes in found.notes.items() if notes["rejected"]]


# --------------------------------------------------------------------------- by hand


LINE = [[0.0], [1.0], [2.0], [3.5], [100.0]]  # one of five is bad


def test_krum_takes_the_one_with_the_nearest_neighbours():
    # n - f - 2 = 2 nearest: scores 5, 2, 3.25, 8.5, 18917: the second wins
    assert mean("krum", LINE, bad=0.2) == [1.0]
    found = combine("multi_krum", stack_of(LINE), bad=0.2)
    assert found.total.mean("delta") == pytest.approx([1.625])
    assert rejected(found) == [4]


def test_bulyan_takes_the_middle_of_what_krum_takes():
    rows = [[0.0], [1.0], [2.0], [3.0], [4.0], [5.0], [90.0]]  # f = 1, five are taken, three of each coordinate count
    found = combine("bulyan", stack_of(rows), bad=0.15)
    assert 1.0 <= found.total.mean("delta")[0] <= 4.0
    assert 6 in rejected(found)
    assert len(rejected(found)) == 2


def test_a_trimmed_mean_leaves_out_either_end():
    assert mean("trimmed_mean", LINE, bad=0.2) == pytest.approx([6.5 / 3])
    assert mean("slsgd", LINE, bad=0.2, alpha=0.5) == pytest.approx([6.5 / 6])


def test_the_geometric_median_of_a_triangle_is_its_fermat_point_and_of_a_line_its_median():
    high = np.sqrt(3) / 2
    assert mean("geometric_median", [[0, 0], [1, 0], [0.5, high]], steps=50) == pytest.approx([0.5, high / 3], abs=1e-4)
    assert mean("geometric_median", LINE, steps=400)[0] == pytest.approx(2.0, abs=0.05)


def test_norms_are_clipped_to_the_limit_or_to_their_median():
    rows = [[3.0, 4.0], [0.0, 1.0], [0.0, -20.0]]
    assert mean("norm_clip", rows, limit=1.0) == pytest.approx([0.6 / 3, (0.8 + 1 - 1) / 3])
    assert mean("norm_clip", rows) == pytest.approx([1.0, 0.0])  # 5 is the median


def test_weak_dp_is_a_clip_and_noise_that_follows_from_the_seed():
    rows = [[0.0] * 4000, [0.0] * 4000]
    first, again = mean("weak_dp", rows, sigma=0.5), mean("weak_dp", rows, sigma=0.5)
    assert (first == again).all()
    assert first.std() == pytest.approx(0.5, rel=0.05)


def test_a_centred_clip_starts_where_the_last_round_ended():
    stack = stack_of([[11.0], [12.0], [1000.0]])
    found = combine("centred_clip", stack, memory={"delta": np.array([10.0], np.float32)}, limit=2.0, steps=1)
    assert found.total.mean("delta") == pytest.approx([10 + (1 + 2 + 2) / 3])
    assert found.memory["delta"] == pytest.approx([10 + 5 / 3])


def test_foolsgold_distrusts_those_who_always_say_the_same():
    found = combine("foolsgold", stack_of([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, -1, 0], [-1, -1, 0.01]]))
    trust = [found.notes[client]["trust"] for client in range(5)]
    assert trust[:3] == [1.0, 1.0, 1.0]
    assert max(trust[3:]) < 0.01
    assert found.memory["history"].reshape(32, 3)[3] == pytest.approx([-1, -1, 0])


def test_crfl_keeps_the_model_short():
    delta = mean("crfl", [[30.0, 40.0]], limit=5.0, sigma=0.0)
    assert delta == pytest.approx([3.0, 4.0])


def test_the_rate_turns_where_signs_disagree():
    rows = [[1.0, 1.0], [1.0, -1.0], [1.0, 1.0], [1.0, -3.0]]
    assert mean("robust_lr", rows, agree=0.5) == pytest.approx([1.0, 0.5])


def test_residuals_far_from_the_line_cost_weight():
    dice = np.random.default_rng(3)
    rows = dice.normal(size=(9, 200)).tolist()
    rows[4] = [25.0] * 200
    found = combine("residual", stack_of(rows))
    trust = [found.notes[client]["trust"] for client in range(9)]
    assert trust[4] == min(trust)
    assert trust[4] < 0.2


def test_three_sigma_leaves_out_who_is_far_away_and_nobody_else():
    found = combine("three_sigma", stack_of([[0.0], [0.1], [0.2], [-0.1], [-0.2], [0.15], [9.0]]))
    assert rejected(found) == [6]


def test_cross_round_sees_who_repeats_itself_and_who_turns_around():
    first = combine("cross_round", stack_of([[1, 0.2, 0], [1, 0, 0.3], [1, 0.1, 0.1]]))
    assert rejected(first) == []
    now = stack_of([[1, 0.2, 0], [1, 0.4, -0.2], [-1, -0.1, -0.1]])
    assert rejected(combine("cross_round", now, memory=first.memory)) == [0, 2]


def test_zeno_keeps_what_helps_on_the_servers_own_samples():
    eye = Eye([1.0, 1.0])
    rows = [[1.0, 1.0], [0.9, 0.8], [-1.0, -1.0], [-3.0, 0.0], [9.0, 9.0]]
    found = combine("zeno", stack_of(rows), eye=eye, bad=0.6)
    assert rejected(found) == [2, 3, 4]
    with pytest.raises(UsageError, match="look at a model"):
        combine("zeno", stack_of(rows))


def test_fltrust_rescales_and_trusts_by_the_cosine():
    found = combine("fltrust", stack_of([[0, 10], [3, 0], [-5, -5]]), eye=Eye([2.0, 0.0]))
    assert rejected(found) == [0, 2]
    assert found.total.mean("delta") == pytest.approx([2.0, 0.0])


# --------------------------------------------------------------------------- properties


@pytest.mark.parametrize("name", NAMES)
@given(count=st.integers(9, 13), scale=st.floats(0.01, 100), seed=st.integers(0, 1000))
def test_the_order_of_clients_does_not_matter(name, count, scale, seed):
    dice = np.random.default_rng(seed)
    stack = stack_of(((dice.normal(size=(count, 4)) + 0.5) * scale).tolist())
    order = [int(at) for at in dice.permutation(count)]
    turned = Stack(order, [1.0] * count, [stack.rows[at] for at in order])
    here, there = (combine(name, one).total.mean("delta") for one in (stack, turned))
    np.testing.assert_allclose(here, there, rtol=1e-3, atol=1e-4 * scale)


BOUNDED = [
    "median", "krum", "multi_krum", "bulyan", "trimmed_mean", "geometric_median", "norm_clip", "weak_dp",
    "centred_clip", "slsgd", "three_sigma", "crfl",
]  # fmt: skip


@pytest.mark.parametrize("name", BOUNDED)
@given(size=st.floats(1e2, 1e6), seed=st.integers(0, 1000))
def test_a_bad_one_cannot_move_it_far_however_large(name, size, seed):
    """Of eleven updates near a point, two are anywhere: the result is about where the honest ones are."""
    dice = np.random.default_rng(seed)
    rows = dice.normal(size=(11, 6)) + 3
    direction = dice.normal(size=6)
    rows[[2, 7]] = direction / np.linalg.norm(direction) * size
    found = mean(name, rows.tolist(), **({"bad": 0.2} if name in {"krum", "multi_krum", "trimmed_mean"} else {}))
    if name == "bulyan":
        found = mean(name, rows.tolist(), bad=0.18)
    assert np.linalg.norm(found) < 3 * np.linalg.norm(rows[[0, 1, 3, 4, 5, 6, 8, 9, 10]], axis=1).max()


@pytest.mark.parametrize("name", ["median", "geometric_median"])
def test_it_breaks_down_at_one_half_and_not_before(name):
    good, bad = [[0.0, 0.1]], [[1e4, 1e4]]
    steps = {"steps": 100} if name == "geometric_median" else {}  # so near to one half it comes closer slowly
    held = mean(name, good * 6 + bad * 5, **steps)
    fallen = mean(name, good * 5 + bad * 6, **steps)
    assert np.linalg.norm(held) < 50 < np.linalg.norm(fallen)


@pytest.mark.parametrize(("name", "cut"), [("trimmed_mean", 2), ("multi_krum", 2)])
def test_it_holds_for_the_part_it_is_told_and_falls_beyond(name, cut):
    good, bad = [[float(at), 0.0] for at in range(9)], [[1e5, 1e5]]
    bads = {count: np.linalg.norm(mean(name, good + bad * count, bad=0.19)) for count in (cut, 6)}
    assert bads[cut] < 20 < bads[6]


@pytest.mark.parametrize("name", NAMES)
def test_updates_are_read_some_coordinates_at_a_time(name, monkeypatch):
    """Longer vectors than a chunk: the same result, and never all clients' whole updates in one array."""
    import nexus.federate.core.stack as module

    dice = np.random.default_rng(1)
    stack = stack_of((dice.normal(size=(11, 2500)) + 1).tolist())
    whole = combine(name, stack).total.mean("delta")
    monkeypatch.setattr(module, "CHUNK", 1000)
    np.testing.assert_allclose(combine(name, stack).total.mean("delta"), whole, rtol=1e-3, atol=1e-3)


def test_sketches_keep_cosines():
    dice = np.random.default_rng(2)
    base = dice.normal(size=300_000)
    rows = [base, base + 0.5 * dice.normal(size=300_000), dice.normal(size=300_000)]
    stack = stack_of([row.tolist() for row in rows])
    short = sketches(stack).astype(np.float64)
    assert short.shape == (3, SKETCH)
    np.testing.assert_allclose(cosines(short @ short.T), cosines(stack.gram()), atol=0.05)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("krum", {"bad": 0.5}),
        ("bulyan", {"bad": -0.1}),
        ("geometric_median", {"steps": 0}),
        ("norm_clip", {"limit": -1}),
        ("centred_clip", {"steps": 0}),
        ("crfl", {"limit": 0}),
        ("slsgd", {"alpha": 0}),
        ("residual", {"width": 0}),
        ("robust_lr", {"agree": 2}),
        ("three_sigma", {"sigmas": 0}),
        ("cross_round", {"least": 1}),
        ("zeno", {"rho": -1}),
    ],
)
def test_impossible_options_have_a_next_step(name, options):
    with pytest.raises(UsageError) as caught:
        make(DEFENCES.get(name), name, options)
    assert caught.value.hint


@pytest.mark.parametrize(("name", "count"), [("krum", 2), ("bulyan", 2)])
def test_too_few_updates_are_said(name, count):
    with pytest.raises(UsageError, match="updates or more"):
        mean(name, [[1.0]] * count)
