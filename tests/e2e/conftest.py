"""Houses for tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.house import House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A house that is not up yet, and is down at the end."""
    made = House(tmp_path / "home")
    yield made
    made.down()


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One house for a module's tests, up with its agent."""
    made = House(tmp_path_factory.mktemp("standing") / "home")
    made.up()
    yield made
    made.down()
