"""The simulation workload that both sides run: 1000 users x 50 synthetic 28x28 images, a LeNet of 113,674 parameters.

Cohort 50, one local epoch in batches of 10 (5 steps), SGD 0.1, plain averaging, no evaluation inside the rounds. Needs
torch and numpy only, so that a peer's environment can import it too.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

USERS, SAMPLES, COHORT, BATCH, RATE = 1000, 50, 50, 10, 0.1


def data() -> tuple[torch.Tensor, torch.Tensor]:
    """Images (users, samples, 1, 28, 28) and labels: ten smooth patterns with noise, Dirichlet(0.1) label skew."""
    dice = np.random.default_rng(0)
    coarse = dice.normal(size=(10, 7, 7)).astype(np.float32)
    patterns = np.kron(coarse, np.ones((4, 4), np.float32))
    labels = np.stack([dice.choice(10, SAMPLES, p=dice.dirichlet(np.full(10, 0.1))) for _ in range(USERS)])
    noise = dice.normal(scale=2.0, size=(USERS, SAMPLES, 28, 28)).astype(np.float32)
    return torch.from_numpy(patterns[labels] + noise).unsqueeze(2), torch.from_numpy(labels)


def model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 192),
        nn.ReLU(),
        nn.Linear(192, 10),
    )


loss = functional.cross_entropy
