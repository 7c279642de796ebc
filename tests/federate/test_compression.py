"""Compression: what is packed comes back to the bit, what travels is what is counted, and the memory pays for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.federate.core.algorithm import Step, Trainer, Vectors
from nexus.federate.core.algorithms.fedavg import FedAvg
from nexus.federate.core.compression.feedback import Feedback
from nexus.federate.core.compression.qsgd import Qsgd
from nexus.federate.core.compression.random_k import RandomK
from nexus.federate.core.compression.sign import Sign
from nexus.federate.core.compression.top_k import TopK
from nexus.federate.core.packing import Levels, Sparse
from nexus.federate.core.settings import check
from nexus.federate.core.total import Array
from nexus.federate.model import Part, Settings
from nexus.federate.simulation import Simulation, simulate
from nexus.kernel.errors import UsageError

pytestmark = pytest.mark.torch

WAYS = [
    TopK(part=0.05),
    RandomK(part=0.3, memory=0.0),
    Sign(block=7),
    *(Qsgd(bits=bits, block=9) for bits in (2, 4, 8)),
]


def run(task, **changes: object) -> Simulation:
    return simulate(task, replace(task.settings, **changes), workers=1)


@settings(max_examples=25, deadline=None)
@given(length=st.integers(1, 1500), seed=st.integers(0, 99), zeros=st.sampled_from([0.0, 0.5, 1.0]))
def test_what_is_squeezed_travels_without_loss_in_the_bytes_that_are_counted(length, seed, zeros):
    dice = np.random.default_rng(seed)
    vector = dice.normal(size=length).astype(np.float32) * (dice.random(length) >= zeros)
    for way in WAYS:
        sent, wire = way.squeeze(vector, np.random.default_rng(seed)), way.wire()
        assert sent.dtype == np.float32
        fields = wire.pack(sent)
        shapes = wire.shapes(length)
        assert all(len(fields[k]) <= s.most and fields[k].dtype == s.dtype for k, s in shapes.items())
        assert np.array_equal(wire.unpack(fields, length), sent)
        assert sum(field.nbytes for field in fields.values()) == wire.size_b(sent)


def test_long_gaps_cost_one_byte_for_every_255_zeros():
    vector = np.zeros(2000, np.float32)
    vector[[0, 255, 256, 1999]] = 1.0
    packed = Sparse().pack(vector)
    assert packed["gaps"].tolist() == [0, 254, 0, *[255] * 6, 212]
    assert np.array_equal(Sparse().unpack(packed, 2000), vector)


@pytest.mark.parametrize(
    ("wire", "fields"),
    [
        (Sparse(), {"gaps": [0, 0], "of": [1.0]}),
        (Sparse(), {"gaps": [0, 255], "of": [1.0]}),
        (Sparse(), {"gaps": [3, 3], "of": [1.0, 1.0]}),
        (Levels(4, 5), {"levels": [255, 0, 0], "scales": [1.0]}),
        (Levels(4, 5), {"levels": [0, 0], "scales": [1.0]}),
        (Levels(4, 5), {"levels": [0, 0, 0], "scales": [-1.0]}),
        (Levels(1, 5), {"levels": [0], "scales": [float("nan")]}),
        (Levels(1, 5), {"levels": [0], "scales": [1.0, 1.0]}),
    ],
)
def test_what_nobody_packs_is_refused(wire, fields):
    given_fields = {k: np.array(v, np.float32 if k in {"of", "scales"} else np.uint8) for k, v in fields.items()}
    with pytest.raises(UsageError):
        wire.unpack(given_fields, 5)


def test_qsgd_is_right_in_the_mean_and_off_by_less_than_a_level():
    vector = np.random.default_rng(0).normal(size=512).astype(np.float32)
    for bits in (2, 4, 8):
        way, dice = Qsgd(bits=bits), np.random.default_rng(1)
        draws = np.stack([way.squeeze(vector, dice) for _ in range(400)])
        step = np.abs(vector).max() / Levels(bits, 512).top
        assert np.abs(draws - vector).max() < step * 1.0001
        assert np.abs(draws.mean(axis=0) - vector).max() < 5 * step / 2 / np.sqrt(400)


def test_random_k_is_right_in_the_mean_without_memory():
    vector = np.ones(200, np.float32)
    dice = np.random.default_rng(1)
    draws = np.stack([RandomK(part=0.25, memory=0.0).squeeze(vector, dice) for _ in range(600)])
    assert (draws.astype(bool).sum(axis=1) == 50).all()
    assert np.abs(draws.mean(axis=0) - 1).max() < 0.35


@dataclass(frozen=True)
class Steady(FedAvg):
    """Every client wants the same in every round."""

    def local(self, plan: Vectors, trainer: Trainer, kept: Vectors) -> Step:
        return Step({"delta": plan["model"]}, 0.0)


class Dice:
    """As much of a trainer as compression needs."""

    def __init__(self) -> None:
        self.generator = np.random.default_rng(3)

    def dice(self, purpose: str) -> np.random.Generator:
        return self.generator


def error_after(rounds: int, way: Feedback, vector: Array) -> float:
    """How far what arrived is from what was wanted, over all rounds, in updates."""
    trainer = cast("Trainer", Dice())
    kept = {name: np.zeros(len(vector), np.float32) for name in way.keeps(way.begin(vector, trainable=1, clients=1))}
    arrived = np.zeros(len(vector), np.float64)
    for _ in range(rounds):
        step = way.local({"model": vector}, trainer, kept)
        arrived += step.send["delta"]
        kept = step.keep
    return float(np.linalg.norm(arrived - rounds * vector.astype(np.float64)) / np.linalg.norm(vector))


@pytest.mark.parametrize(
    "way", [TopK(part=0.1), RandomK(part=0.1), Sign(), Qsgd(bits=2), Qsgd(bits=4)], ids=lambda way: type(way).__name__
)
def test_with_memory_the_error_stays_however_many_rounds_there_are(way):
    vector = np.random.default_rng(5).normal(size=300).astype(np.float32)
    remembers, forgets = (replace(way, memory=memory, inner=Steady()) for memory in (1.0, 0.0))
    assert error_after(1600, remembers, vector) < 1.5 * error_after(400, remembers, vector) + 0.1
    assert error_after(1600, remembers, vector) < error_after(1600, forgets, vector) / 3


@pytest.fixture(scope="module")
def plain(digits) -> Simulation:
    return run(digits)


@pytest.mark.parametrize(
    ("part", "fewer", "lost"),
    [
        (Part("top_k", {"part": 0.1}), 7.9, 0.03),
        (Part("random_k", {"part": 0.3}), 2.6, 0.03),
        (Part("sign"), 30, 0.15),
        (Part("qsgd", {"bits": 8}), 3.9, 0.02),
        (Part("qsgd", {"bits": 4}), 7.8, 0.02),
        (Part("qsgd", {"bits": 2}), 15, 0.02),
    ],
    ids=lambda value: str(value),
)
def test_fewer_bytes_travel_and_little_is_lost(part, fewer, lost, digits, plain):
    small = run(digits, compression=part).rounds[-1]
    assert small.bytes_up * fewer < plain.rounds[-1].bytes_up
    assert small.metrics["accuracy"] > plain.rounds[-1].metrics["accuracy"] - lost


@pytest.mark.parametrize("part", [Part("top_k", {"part": 0.05}), Part("sign")], ids=lambda part: part.name)
def test_what_is_wrong_in_the_mean_needs_its_memory(part, digits):
    forgetful = Part(part.name, part.options | {"memory": 0.0})
    remembered, forgotten = (run(digits, compression=one).rounds[-1] for one in (part, forgetful))
    assert remembered.metrics["loss"] < forgotten.metrics["loss"] * 0.9


@pytest.mark.parametrize(
    "part",
    [
        Part("top_k", {"part": 0.0}),
        Part("random_k", {"part": 1.5}),
        Part("sign", {"block": 0}),
        Part("qsgd", {"bits": 3}),
        Part("qsgd", {"block": 0}),
        Part("sign", {"memory": 2.0}),
    ],
)
def test_impossible_options_are_refused(part):
    with pytest.raises(UsageError) as caught:
        check(Settings(compression=part), 20)
    assert caught.value.hint
