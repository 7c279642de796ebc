"""Every row goes to exactly one client, the same way every time, with the skew that was asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.federate.core.partition import deal, dirichlet, iid, label_counts, shards
from nexus.federate.core.partitioners import PARTITIONERS
from nexus.federate.core.shift import rotated, shift
from nexus.federate.core.spread import Spread, bars, spread, svg
from nexus.federate.core.task import FederatedData
from nexus.kernel.errors import NotFoundError, UsageError

LABELS = np.repeat(np.arange(10), 60)


OPTIONS: dict[str, dict[str, float]] = {"dirichlet": {"alpha": 0.1, "least": 2}}


@settings(max_examples=60, deadline=None)
@given(
    clients=st.integers(4, 40),
    seed=st.integers(0, 5),
    how=st.sampled_from([name for name in PARTITIONERS.names() if name != "by_key"]),
    rows=st.integers(150, 300),
)
def test_each_row_is_dealt_once_and_nobody_is_empty(clients, seed, how, rows):
    labels = np.random.default_rng(seed).permutation(np.arange(rows) % 3)
    options = OPTIONS.get(how, {})
    parts = deal(labels, clients, how, seed=seed, **options)
    assert len(parts) == clients
    assert sorted(np.concatenate(parts).tolist()) == list(range(rows))
    assert min(map(len, parts)) >= options.get("least", 1)
    assert all(
        np.array_equal(a, b) for a, b in zip(parts, deal(labels, clients, how, seed=seed, **options), strict=True)
    )
    assert all((np.diff(part) > 0).all() for part in parts)


def test_every_way_has_its_file():
    from pathlib import Path

    import nexus.federate.core.partitioners as package

    files = {path.stem for path in Path(package.__file__).parent.glob("*.py")} - {"__init__"}
    assert files == set(PARTITIONERS.names())


def skew(parts) -> float:
    """Mean part of a client's rows that are of its commonest class: 0.1 is even over ten classes."""
    counts = label_counts(LABELS, parts)
    return float((counts.max(axis=1) / counts.sum(axis=1)).mean())


def test_a_smaller_alpha_is_a_stronger_skew():
    skews = [skew(dirichlet(LABELS, 20, alpha=alpha, seed=1, least=5)) for alpha in (0.05, 0.5, 5, 500)]
    assert skews == sorted(skews, reverse=True)
    assert skews[0] > 0.6 > 0.2 > skews[-1]
    assert skew(iid(LABELS, 20, seed=1)) < 0.3


def test_shards_give_each_client_few_classes():
    counts = label_counts(LABELS, shards(LABELS, 30, each=2, seed=3))
    assert (counts > 0).sum(axis=1).max() <= 2
    assert (counts.sum(axis=1) == 20).all()


def test_another_seed_deals_differently():
    first, second = (dirichlet(LABELS, 5, alpha=1, seed=seed) for seed in (1, 2))
    assert any(not np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    "deal",
    [
        lambda: iid(LABELS, 0),
        lambda: iid(LABELS, 601),
        lambda: dirichlet(LABELS, 5, alpha=0),
        lambda: dirichlet(LABELS, 100, alpha=1, least=7),
        lambda: shards(LABELS, 600, each=2),
        lambda: deal(LABELS, 5, "dirichlet", alpha=1, beta=2),
        lambda: deal(LABELS, 5, "power_law", exponent=-1),
        lambda: deal(LABELS, 5, "quantity", alpha=float("nan")),
        lambda: deal(LABELS, 3, "label_count", each=2),
        lambda: deal(LABELS, 5, "label_count", each=11),
        lambda: deal(LABELS, 5, "mixture", even=1.5),
        lambda: deal(LABELS, 11, "by_key"),
    ],
)
def test_what_cannot_be_dealt_is_said(deal):
    with pytest.raises(UsageError) as caught:
        deal()
    assert caught.value.hint


def test_an_unknown_way_is_told():
    with pytest.raises(NotFoundError):
        deal(LABELS, 5, "dirichelt")


def sizes(how: str, **options: float) -> list[int]:
    return sorted(map(len, deal(LABELS, 20, how, seed=4, **options)), reverse=True)


def test_sizes_fall_by_the_power_that_was_asked_for():
    by_rank = sizes("power_law", exponent=1.0)
    shares = [1 / rank for rank in range(1, 21)]
    assert by_rank == pytest.approx([600 * share / sum(shares) for share in shares], abs=1.01)
    assert sizes("power_law", exponent=2.0)[0] > by_rank[0] > sizes("power_law", exponent=0.1)[0]


def test_quantity_skew_leaves_labels_alone():
    def dealt(alpha: float) -> Spread:
        parts = deal(LABELS, 20, "quantity", alpha=alpha, seed=2)
        return spread(20, lambda client: LABELS[parts[client]])

    found = [dealt(alpha) for alpha in (0.3, 3, 300)]
    effective = [one.effective_clients for one in found]
    assert effective == sorted(effective)
    assert effective[-1] > 19 > 8 > effective[0]
    assert found[0].heterogeneity < 0.3


@pytest.mark.parametrize("each", [1, 2, 3, 10])
def test_label_count_gives_exactly_that_many_classes(each):
    counts = label_counts(LABELS, deal(LABELS, 20, "label_count", each=each, seed=1))
    assert ((counts > 0).sum(axis=1) == each).all()
    assert (counts > 0).any(axis=0).all()


def test_a_mixture_lies_between_its_ends():
    skews = [skew(deal(LABELS, 10, "mixture", even=even, seed=1)) for even in (0.0, 0.3, 0.7, 1.0)]
    assert skews == sorted(skews, reverse=True)
    assert skews[0] > 0.95
    assert skews[-1] < 0.3


def test_natural_keys_are_clients():
    keys = np.array(["b", "a", "b", "c", "b", "a"])
    assert [part.tolist() for part in deal(keys, 0, "by_key")] == [[1, 5], [0, 2, 4], [3]]
    assert [part.tolist() for part in deal(keys, 0, "by_key", least=2)] == [[1, 5], [0, 2, 4]]
    assert [part.tolist() for part in deal(keys, 1, "by_key")] == [[0, 2, 4]]


# --------------------------------------------------------------------------- feature shift


def test_a_quarter_turn_is_exact_and_none_changes_nothing():
    images = np.random.default_rng(0).random((3, 2, 6, 6)).astype(np.float32)
    assert np.array_equal(rotated(images, 0), images)
    np.testing.assert_allclose(rotated(images, 90), np.rot90(images, axes=(-2, -1)), atol=1e-5)


@pytest.mark.parametrize("how", ["rotation", "noise", "scale"])
def test_every_client_sees_its_own_more_the_larger_the_strength(how):
    x = np.random.default_rng(0).random((40, 1, 8, 8)).astype(np.float32)
    data = FederatedData(x, np.zeros(40), iid(np.zeros(40), 4))

    def away(strength: float) -> list[float]:
        seen = shift(data, how, strength=strength, seed=1)
        assert len(seen) == 4
        assert np.array_equal(seen(2)[0], seen(2)[0])
        assert seen(2)[0].dtype == np.float32
        return [float(np.abs(seen(client)[0] - data(client)[0]).mean()) for client in range(4)]

    assert away(0.0) == pytest.approx([0] * 4, abs=1e-7)
    little, much = (away(strength) for strength in ((5, 40) if how == "rotation" else (0.05, 0.4)))
    assert all(b >= a for a, b in zip(little, much, strict=True))
    assert much[3] > little[3] > 0
    if how != "scale":
        assert much == sorted(much)
        assert much[0] == 0


def test_shifts_that_cannot_be_are_refused():
    data = FederatedData(np.zeros((4, 2)), np.zeros(4), [np.arange(4)])
    for wrong in ({"how": "turn"}, {"how": "rotation"}, {"how": "noise", "strength": -1.0}):
        with pytest.raises(UsageError) as caught:
            shift(data, **({"strength": 1.0} | wrong))
        assert caught.value.hint


# --------------------------------------------------------------------------- numbers and pictures


def test_the_numbers_of_a_spread_that_is_known():
    found = spread(3, lambda client: [["a"] * 4, ["b"] * 4, ["a", "a", "b", "b"]][client])
    assert found.counts.tolist() == [[4, 0], [0, 4], [2, 2]]
    assert found.entropy.tolist() == [0, 0, 1]
    assert found.distances.tolist() == [[0, 1, 0.5], [1, 0, 0.5], [0.5, 0.5, 0]]
    assert found.heterogeneity == pytest.approx(1 / 3)
    assert found.effective_clients == pytest.approx(3)
    assert found.summary()["distance"] == pytest.approx(2 / 3)


def test_labels_that_are_numbers_go_into_bins_of_equal_count():
    values = np.random.default_rng(0).normal(size=(2, 500))
    found = spread(2, lambda client: values[client])
    assert len(found.classes) == 10
    assert found.counts.sum(axis=0).tolist() == pytest.approx([100] * 10, abs=1)


def test_pictures_show_every_client_and_class():
    import xml.etree.ElementTree as ET

    parts = shards(LABELS, 12, each=2)
    found = spread(12, lambda client: LABELS[parts[client]])
    root = ET.fromstring(svg(found))
    titles = [title.text or "" for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert sum(title.startswith("client ") for title in titles) == int((found.counts > 0).sum())
    assert "12 clients, 600 samples" in titles[0]
    lines = bars(found, most=5)
    assert len(lines) == 6
    assert lines[-1].endswith("7 more")
    assert all("50" in line and "█" * 40 in line for line in lines[:5])
    odd = spread(1, lambda _: np.array(["<b>&"]))
    ET.fromstring(svg(odd))
