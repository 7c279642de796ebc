"""A small task for tests of the network: loads fast; NEXUS_TEST_DELAY_S makes every client that slow."""

import os
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from nexus import federate

DELAY_S = float(os.environ.get("NEXUS_TEST_DELAY_S", "0"))
dice = np.random.default_rng(0)
labels = torch.from_numpy(dice.integers(0, 3, 360))
centres = torch.from_numpy(dice.normal(size=(3, 6)).astype(np.float32)) * 2
points = centres[labels] + torch.from_numpy(dice.normal(size=(360, 6)).astype(np.float32))
parts = federate.dirichlet(labels[:300], clients=12, alpha=0.5, seed=1, least=5)


def data(client: int) -> tuple[torch.Tensor, torch.Tensor]:
    time.sleep(DELAY_S)
    return points[parts[client]], labels[parts[client]]


task = federate.Task(
    model=lambda: nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)),
    data=data,
    clients=12,
    loss=functional.cross_entropy,
    metrics={"accuracy": federate.accuracy},
    test=(points[300:], labels[300:]),
    root=(points[300:330], labels[300:330]),
    settings=federate.Settings(
        rounds=4, cohort=6, seed=5, lost_after_s=1.5, local=federate.Local(epochs=2, batch=10, lr=0.1)
    ),
)
