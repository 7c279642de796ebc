"""Sums: associative up to rounding, and in one order whoever does the work."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.federate.core.total import BLOCKS, Array, OrderedFold, Total, blocks


@given(st.integers(1, 500))
def test_blocks_cover_a_cohort_in_order(size):
    cut = list(blocks(size))
    assert [position for block in cut for position in block] == list(range(size))
    assert len(cut) <= BLOCKS


def updates(count: int, seed: int = 0, length: int = 300_000) -> tuple[list[Array], list[int]]:
    dice = np.random.default_rng(seed)
    return [dice.normal(size=length).astype(np.float32) for _ in range(count)], dice.integers(1, 90, count).tolist()


@settings(max_examples=15, deadline=None)
@given(cut=st.integers(0, 8), seed=st.integers(0, 9))
def test_merging_totals_is_folding_all(cut, seed):
    vectors, weights = updates(8, seed, 1000)
    left, right, whole = (Total({"d": 1000}) for _ in range(3))
    for index, (vector, weight) in enumerate(zip(vectors, weights, strict=True)):
        (left if index < cut else right).absorb({"d": vector}, weight)
        whole.absorb({"d": vector}, weight)
    left.merge(right)
    exact = np.average(np.array(vectors, np.float64), axis=0, weights=weights)
    np.testing.assert_allclose(left.mean("d"), exact, atol=1e-5)
    np.testing.assert_allclose(left.mean("d"), whole.mean("d"), atol=1e-5)
    assert (left.count, left.weight) == (8, sum(weights))


def test_a_fold_with_gaps_is_the_fold_of_those_who_came():
    vectors, weights = updates(50, length=100)
    fold = OrderedFold(50, {"d": 100})
    came = [0, 1, 7, 8, 9, 30, 49]
    for position in came:
        fold.add(position, {"d": vectors[position]}, weights[position])
    total = fold.finish()
    exact = np.average([vectors[i].astype(np.float64) for i in came], axis=0, weights=[weights[i] for i in came])
    np.testing.assert_allclose(total.mean("d"), exact, atol=1e-6)
    assert total.count == len(came)


def test_a_sum_is_the_same_to_the_bit_wherever_it_is_cut_and_reads_what_may_not_be_written():
    """As it is where threads or shards share a vector."""
    vectors, weights = updates(3, length=100_003)
    whole, parts = Total({"d": 100_003}), [Total({"d": n}) for n in (1, 7, 50_000, 49_995)]
    for vector, weight in zip(vectors, weights, strict=True):
        vector.flags.writeable = False
        whole.absorb({"d": vector}, weight / 7)
        at = 0
        for part in parts:
            part.absorb({"d": vector[at : at + len(part.sums["d"])]}, weight / 7)
            at += len(part.sums["d"])
    assert np.array_equal(np.concatenate([part.sums["d"] for part in parts]), whole.sums["d"])


def test_vectors_longer_than_a_chunk_are_summed_whole():
    vectors, weights = updates(3)
    total = Total({"d": 300_000})
    for vector, weight in zip(vectors, weights, strict=True):
        total.absorb({"d": vector}, weight)
    np.testing.assert_allclose(total.mean("d"), np.average(vectors, axis=0, weights=weights), atol=1e-5)
