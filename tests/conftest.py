"""What every test may use."""

from __future__ import annotations

import os

import pytest

# One thread per process: two cores are shared, and OpenMP under contention is slower than no OpenMP.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
