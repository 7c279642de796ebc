"""What attacks are tried against defences on (docs/how-to/federated-robustness.md): digits, twenty clients, mild skew.

nexus federate robustness bench/federate_robust.py --out /tmp/robustness
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from nexus import federate

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16.0
labels = torch.tensor(digits.target)
held_out = torch.arange(len(labels)) % 5 == 0
root = torch.arange(len(labels)) % 20 == 0

task = federate.Task(
    model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)),
    data=federate.FederatedData(
        images[~held_out],
        labels[~held_out],
        parts=federate.dirichlet(labels[~held_out], clients=20, alpha=2.0, seed=7),
    ),
    loss=functional.cross_entropy,
    metrics={"accuracy": federate.accuracy},
    test=(images[held_out & ~root], labels[held_out & ~root]),
    root=(images[root], labels[root]),
    settings=federate.Settings(rounds=20, cohort=15, seed=7, local=federate.Local(epochs=2, batch=16, lr=0.2)),
)
