"""Tasks that are loaded once."""

from __future__ import annotations

import pytest

from nexus.federate.core.task import Task


@pytest.fixture(scope="session")
def digits() -> Task:
    """The example itself: twenty people's real digits, dealt by Dirichlet(0.3)."""
    from nexus.federate.adapters.loader import load_task
    from tests.federate.tasks import APP

    return load_task(APP)


@pytest.fixture(scope="session")
def skewed(digits: Task) -> Task:
    """Softmax regression over ten clients who each know one digit only: as much drift as there can be."""
    from dataclasses import replace

    from torch import nn

    from nexus.federate.core.partition import shards
    from nexus.federate.core.task import FederatedData
    from nexus.federate.model import Local, Settings

    assert isinstance(digits.data, FederatedData)
    data = FederatedData(digits.data.x, digits.data.y, shards(digits.data.y, 10, each=1))
    settings = Settings(rounds=20, cohort=10, seed=3, local=Local(epochs=5, batch=20, lr=0.1))

    def model() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    return replace(digits, data=data, clients=10, model=model, settings=settings)
