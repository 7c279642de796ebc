"""The same model for any number of workers, and what happens when a client's code fails."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from nexus.federate.core.algorithms import ALGORITHMS
from nexus.federate.core.chain import digest
from nexus.federate.core.task import FederatedData, Task
from nexus.federate.core.trainer import TorchTrainer
from nexus.federate.model import Local, Round, Settings
from nexus.federate.simulation import describe, simulate
from nexus.kernel.errors import JobError, UsageError

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("name", ALGORITHMS.names())
def test_the_number_of_workers_changes_no_bit(name, digits):
    settings = replace(digits.settings, algorithm=name, rounds=3, cohort=19)
    models = {workers: simulate(digits, settings, workers=workers).model for workers in (1, 2, 3)}
    assert digest(models[1]) == digest(models[2]) == digest(models[3])


def test_the_callers_threads_are_given_back(digits):
    before = torch.get_num_threads()
    simulate(digits, replace(digits.settings, rounds=1), workers=1)
    assert torch.get_num_threads() == before


def failing(how: Callable[[], None], digits: Task) -> Task:
    def data(client):
        if client == 3:
            how()
        return digits.data(client)

    return replace(digits, data=data, clients=20)


def boom():
    raise ValueError("the file of this client is damaged")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failing_client_ends_the_simulation_with_its_reason(workers, digits):
    settings = replace(digits.settings, rounds=1, cohort=20)
    with pytest.raises((JobError, ValueError), match="the file of this client is damaged"):
        simulate(failing(boom, digits), settings, workers=workers)


def test_a_killed_worker_is_said_and_nobody_waits(digits):
    settings = replace(digits.settings, rounds=1, cohort=20)
    task = failing(lambda: os.kill(os.getpid(), signal.SIGKILL), digits)
    with pytest.raises(JobError, match="worker of the simulation died"):
        simulate(task, settings, workers=2)


def test_a_diverging_model_is_a_clear_error(digits):
    settings = replace(digits.settings, rounds=5, local=Local(epochs=2, lr=1e6))
    with pytest.raises(JobError) as caught:
        simulate(digits, settings, workers=1)
    assert "local.lr" in caught.value.hint


def test_results_are_files_that_others_read(digits, tmp_path):
    result = simulate(digits, replace(digits.settings, rounds=2), workers=1)
    paths = result.save(tmp_path / "out")
    module = digits.model()
    module.load_state_dict(load_file(paths["model.safetensors"]))
    assert digits.test is not None
    with torch.inference_mode():
        found = float((module(digits.test[0]).argmax(1) == digits.test[1]).float().mean())
    assert found == pytest.approx(result.rounds[-1].metrics["accuracy"])
    lines = paths["rounds.jsonl"].read_bytes().splitlines()
    assert [msgspec.json.decode(line, type=Round) for line in lines] == list(result.rounds)


def test_a_plan_trains_nothing_and_says_what_would_run(digits):
    facts = describe(digits, digits.settings)
    result = simulate(digits, digits.settings, workers=2)
    assert facts["bytes_up"] == sum(r.bytes_up for r in result.rounds)
    assert facts["bytes_down"] == sum(r.bytes_down for r in result.rounds)
    assert facts["samples"]["all"] == len(digits.data.x)


def test_a_plan_says_about_how_long_and_what_clients_keep(digits):
    settings = replace(digits.settings, rounds=8, local=Local(epochs=1, batch=16))
    plain = describe(digits, settings)
    assert 0 < plain["cpu_seconds"] < 600
    assert plain["kept_bytes"] == 0
    longer = describe(digits, replace(settings, algorithm="scaffold", local=Local(epochs=20, batch=16)))
    assert longer["cpu_seconds"] > 3 * plain["cpu_seconds"]
    assert longer["kept_bytes"] == 4 * plain["parameters"] * digits.clients, "every client comes at least once"


def test_memory_does_not_grow_with_clients_or_rounds():
    """Two thousand clients, of whom four take part in a round: what a round leaves behind is its record."""
    import tracemalloc

    x, y = torch.randn(4000, 20), torch.randint(0, 3, (4000,))
    task = Task(
        model=lambda: nn.Sequential(nn.Linear(20, 200), nn.ReLU(), nn.Linear(200, 3)),
        data=lambda client: (x[2 * client : 2 * client + 2], y[2 * client : 2 * client + 2]),
        clients=2000,
        loss=functional.cross_entropy,
    )
    sizes: list[int] = []

    def each(record: Round) -> None:
        if record.number in {20, 120}:
            sizes.append(tracemalloc.get_traced_memory()[0])

    tracemalloc.start()
    try:
        simulate(task, Settings(rounds=120, cohort=4, local=Local(batch=2)), workers=1, each=each)
    finally:
        tracemalloc.stop()
    assert sizes[1] - sizes[0] < 100 * 4 * 1500, "about a kilobyte for a client's turn; a model would be 19 of them"


# --------------------------------------------------------------------------- the trainer


def normed(**changes: Any) -> Task:
    dice = np.random.default_rng(0)
    y = dice.integers(0, 2, 80)
    x = (dice.normal(size=(80, 5)) * 3 + y[:, None] + 10).astype(np.float32)

    def model() -> nn.Module:
        return nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2))

    parts = [np.arange(i, 80, 4) for i in range(4)]
    given: dict[str, Any] = {
        "model": model,
        "data": FederatedData(torch.from_numpy(x), torch.from_numpy(y), parts),
        "loss": functional.cross_entropy,
        "settings": Settings(rounds=3, cohort=4, seed=1, local=Local(epochs=2, batch=10, lr=0.05)),
    }
    return Task(**(given | changes))


def test_one_client_is_plain_sgd():
    """The flat vectors are only a faster way to do what a loop over torch.optim.SGD does."""
    task = replace(normed(), settings=Settings(local=Local(epochs=2, batch=7, lr=0.05)))
    trainer = TorchTrainer(task, seed=5, local=task.settings.local)
    reference = task.model()
    reference.load_state_dict(trainer.tensors(trainer.initial))
    trainer.enter(2, 1)
    fit = trainer.fit(trainer.initial)
    after = trainer.tensors(trainer.initial + fit.delta)

    trainer.enter(2, 1)  # the same seeds again: the same batches, the same dropout
    x, y = task.data(2)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.05)
    for _ in range(2):
        order = torch.from_numpy(trainer._dice.permutation(len(x)))
        for first in range(0, len(x), 7):
            rows = order[first : first + 7]
            optimizer.zero_grad()
            torch.autograd.backward(functional.cross_entropy(reference(x[rows]), y[rows]))
            optimizer.step()
    for name, tensor in reference.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(after[name], tensor, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("name", ALGORITHMS.names())
def test_running_means_are_averaged_and_stay_sane(name):
    task = normed()
    result = simulate(task, replace(task.settings, algorithm=name, rounds=10), workers=1)
    state = result.worker.trainer.tensors(result.model)
    assert (state["0.running_var"] > 0).all()
    assert (state["0.running_mean"] > 5).all(), "the data's mean is above 10, and the mean of clients approaches it"


def test_frozen_parameters_are_neither_trained_nor_sent():
    def model() -> nn.Module:
        made = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))
        made[0].requires_grad_(False)
        return made

    task = normed(model=model)
    trainer = TorchTrainer(task, 1, Local())
    assert trainer.trainable == len(trainer.initial) == 18


def test_a_task_must_know_its_clients():
    with pytest.raises(UsageError):
        normed(data=lambda _: (torch.zeros(1, 5), torch.zeros(1)))
    with pytest.raises(UsageError):
        normed(clients=3)


def test_an_empty_client_is_named():
    task = normed(data=lambda _: (torch.zeros(0, 5), torch.zeros(0)), clients=4)
    with pytest.raises(JobError, match="client 0"):
        simulate(task, task.settings, workers=1)
