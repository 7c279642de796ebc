"""Every row goes to exactly one client, the same way every time, with the skew that was asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.federate.core.partition import Rows, dirichlet, iid, label_counts, shards
from nexus.kernel.errors import UsageError

LABELS = np.repeat(np.arange(10), 60)


@settings(max_examples=40, deadline=None)
@given(
    clients=st.integers(1, 40),
    seed=st.integers(0, 5),
    how=st.sampled_from(["iid", "dirichlet", "shards"]),
    labels=st.lists(st.integers(0, 4), min_size=120, max_size=300),
)
def test_each_row_is_dealt_once_and_nobody_is_empty(clients, seed, how, labels):
    deals: dict[str, Callable[[], list[Rows]]] = {
        "iid": lambda: iid(labels, clients, seed=seed),
        "dirichlet": lambda: dirichlet(labels, clients, alpha=0.1, seed=seed, least=2),
        "shards": lambda: shards(labels, clients, each=2, seed=seed),
    }
    deal = deals[how]
    parts = deal()
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    assert min(map(len, parts)) >= (2 if how == "dirichlet" else 1)
    assert all(np.array_equal(a, b) for a, b in zip(parts, deal(), strict=True))


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
    ],
)
def test_what_cannot_be_dealt_is_said(deal):
    with pytest.raises(UsageError) as caught:
        deal()
    assert caught.value.hint
