"""A task from FedML's config alone: its data from packages, its model written anew after the papers it names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from nexus.federate.core.ask import ask
from nexus.federate.core.fedml import Reading
from nexus.federate.core.task import Task, accuracy
from nexus.federate.data import load

__all__ = ["task_of"]


def task_of(reading: Reading) -> Task:
    """Raises MissingError for data that was not fetched, UsageError where it cannot be dealt so."""
    dataset = load(reading.dataset)
    by_key = dataset.keys is not None
    how = "by_key" if by_key else reading.deal
    options = {} if by_key else reading.deal_options
    held_out = dataset if dataset.test is not None else dataset.split(0.1)
    classes = len(dataset.classes)
    data = held_out.deal(reading.clients, how, seed=reading.settings.seed, **options)
    query = reading.settings.query
    if query is not None:
        task = ask(lambda client: {"y": data(client)[1]}, query.name, column="y", clients=len(data), **query.options)
        return replace(task, settings=replace(task.settings, seed=reading.settings.seed))
    models: dict[str, Callable[[], nn.Module]] = {
        "lr": lambda: nn.Sequential(nn.Flatten(), nn.Linear(dataset.x[0].size, classes)),
        "cnn": lambda: _cnn(dataset.x.shape[1], dataset.x.shape[-1], classes),
        "rnn": lambda: NextCharacter(classes),
    }
    return Task(
        model=models[reading.model],
        data=data,
        loss=nn.functional.cross_entropy,
        metrics={"accuracy": accuracy},
        test=held_out.held_out,
        settings=reading.settings,
    )


def _cnn(channels: int, side: int, classes: int) -> nn.Module:
    """Two convolutions and two layers, with dropout: Reddi et al., Adaptive Federated Optimization, 2021, table 4."""
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(64 * ((side - 4) // 2) ** 2, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, classes),
    )


class NextCharacter(nn.Module):
    """Embedding of 8, two LSTM layers of 256: McMahan et al. 2017's character model."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes, 8)
        self.lstm = nn.LSTM(8, 256, num_layers=2, batch_first=True)
        self.head = nn.Linear(256, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of the character after each window."""
        hidden, _ = self.lstm(self.embedding(x))
        scores: torch.Tensor = self.head(hidden[:, -1])
        return scores
