"""What every test may use."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.s3 import S3Server, serving

# The same examples on every run; HYPOTHESIS_PROFILE=search looks for new ones.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

# One thread per process: two cores are shared, and OpenMP under contention is slower than no OpenMP.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server."""
    with serving(tmp_path_factory.mktemp("s3")) as server:
        yield server


_names = itertools.count()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """A function that makes a new empty database and returns its URL."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))  # pgserver asks for it
    import pgserver

    home = Path("/tmp") / f"nexus-postgres-{os.getpid()}"  # the server's own user must be able to enter it
    server = pgserver.get_server(home, cleanup_mode="delete")

    def new_database() -> str:
        name = f"test{next(_names)}"
        server.psql(f"CREATE DATABASE {name};")
        return str(server.get_uri(name))

    yield new_database
    server.cleanup()
