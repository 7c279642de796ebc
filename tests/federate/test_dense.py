"""Models trained by their own formulas: what torch computes, in any company, and only where the shape allows it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from nexus.federate.core.dense import Dense
from nexus.federate.core.pooling import quicken
from nexus.federate.core.task import Task
from nexus.federate.core.trainer import TorchTrainer
from nexus.federate.model import Local, Settings
from nexus.federate.simulation import simulate

pytestmark = pytest.mark.torch
SIZES = (23, 7, 10, 1, 31, 12, 9, 40)
SHAPES = {
    "linear": lambda: nn.Sequential(nn.Linear(6, 3)),
    "no bias": lambda: nn.Sequential(nn.Linear(6, 3, bias=False)),
    "two layers": lambda: nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)),
    "three layers": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5, bias=False), nn.ReLU(), nn.Linear(5, 3)
    ),
}


def task(model, loss=functional.cross_entropy) -> Task:
    dice = torch.Generator().manual_seed(3)
    data = [(torch.randn(size, 6, generator=dice), torch.randint(0, 3, (size,), generator=dice)) for size in SIZES]
    local = Local(epochs=3, batch=10, lr=0.2)
    settings = Settings(rounds=3, cohort=len(SIZES), seed=1, local=local)
    return Task(model=model, data=lambda client: data[client], clients=len(SIZES), loss=loss, settings=settings)


def autograd(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The same loss under a name that is not known."""
    return functional.cross_entropy(outputs, y)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_what_torch_computes(shape):
    ours, theirs = task(SHAPES[shape]), task(SHAPES[shape], autograd)
    assert Dense.of(ours.model(), ours.loss) is not None
    one, other = (simulate(t, t.settings, workers=1) for t in (ours, theirs))
    np.testing.assert_allclose(one.model, other.model, atol=2e-5)
    for mine, its in zip(one.rounds, other.rounds, strict=True):
        assert [t.loss for t in mine.turns] == pytest.approx([t.loss for t in its.turns], abs=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_company_changes_no_bit(shape):
    alone, together = (TorchTrainer(task(SHAPES[shape]), 1, Local(epochs=2, batch=10, lr=0.2)) for _ in range(2))
    together.expect(range(len(SIZES)), 4)
    for client in range(len(SIZES)):
        for trainer in (alone, together):
            trainer.enter(client, 4)
        for _ in range(2):  # a second fit goes on with the same dice
            one, other = alone.fit(alone.initial), together.fit(together.initial)
            assert np.array_equal(one.delta, other.delta)
            assert (one.steps, one.loss) == (other.steps, other.loss)


def test_another_start_is_not_answered_from_what_was_trained_ahead():
    trainer, fresh = (TorchTrainer(task(SHAPES["linear"]), 1, Local(epochs=1, batch=10, lr=0.2)) for _ in range(2))
    trainer.expect(range(len(SIZES)), 1)
    for client in range(4):
        start = trainer.initial + np.float32(client)
        trainer.enter(client, 1)
        fresh.enter(client, 1)
        assert np.array_equal(trainer.fit(start).delta, fresh.fit(start).delta)


@pytest.mark.parametrize(
    "model",
    [
        lambda: nn.Linear(6, 3),
        lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)),
        lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3)),
        lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU()),
        lambda: nn.Sequential(nn.Linear(6, 3).requires_grad_(requires_grad=False)),
        lambda: nn.Sequential(nn.Linear(1000, 2000)),
        nn.Sequential,
    ],
)
def test_other_models_are_left_to_torch(model):
    assert Dense.of(model(), functional.cross_entropy) is None


def test_other_losses_and_samples_are_left_to_torch():
    model = SHAPES["linear"]()
    assert Dense.of(model, nn.CrossEntropyLoss()) is not None
    assert Dense.of(model, nn.CrossEntropyLoss(label_smoothing=0.1)) is None
    assert Dense.of(model, functional.nll_loss) is None
    dense = Dense.of(model, functional.cross_entropy)
    assert dense is not None
    y = torch.zeros(4, dtype=torch.int64)
    assert dense.samples(torch.zeros(4, 6), y) is not None
    assert dense.samples(torch.zeros(4, 6, dtype=torch.float64), y) is None
    assert dense.samples(torch.zeros(4, 5), y) is None
    assert dense.samples(torch.zeros(4, 6), y - 100) is None, "torch ignores or refuses these"


@pytest.mark.parametrize(
    "pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, stride=2, padding=1), nn.MaxPool2d(2, ceil_mode=True)]
)
def test_max_pooling_is_torchs_to_the_bit(pool):
    quick = type(pool)(pool.kernel_size, pool.stride, pool.padding, ceil_mode=pool.ceil_mode)
    quicken(nn.Sequential(quick))
    x = torch.randn(8, 16, 23, 24).relu()  # many equal values: which one gets the gradient must agree
    places = [x.clone().requires_grad_() for _ in range(2)]
    outs = [layer(place) for layer, place in zip((pool, quick), places, strict=True)]
    assert torch.equal(*outs)
    assert "MaxPool2D" not in type(outs[1].grad_fn).__name__, "this is the other way"
    weights = torch.randn_like(outs[0])
    for out in outs:
        torch.autograd.backward((out * weights).sum())
    one, other = (place.grad for place in places)
    assert one is not None
    assert other is not None
    assert torch.equal(one, other)
