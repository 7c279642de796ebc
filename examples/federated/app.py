"""Handwritten digits that twenty people keep to themselves: one file, simulated or run over the network.

nexus federate simulate app.py --algorithm scaffold
nexus launch job.yaml
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from nexus import federate

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16.0  # 1797 x 1 x 8 x 8
labels = torch.tensor(digits.target)
held_out = torch.arange(len(labels)) % 5 == 0  # every fifth digit is no client's
root = torch.arange(len(labels)) % 30 == 0  # some of those the server may look at; the others are the test set


def model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


task = federate.Task(
    model=model,
    data=federate.FederatedData(
        images[~held_out],
        labels[~held_out],
        parts=federate.dirichlet(labels[~held_out], clients=20, alpha=0.3, seed=7),
    ),
    loss=functional.cross_entropy,
    metrics={"accuracy": federate.accuracy},
    test=(images[held_out & ~root], labels[held_out & ~root]),
    root=(images[root], labels[root]),
    settings=federate.Settings(rounds=15, cohort=10, seed=7, local=federate.Local(epochs=2, batch=16, lr=0.1)),
)
