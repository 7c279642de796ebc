"""Blocking database calls in threads of their own: a few readers beside the writers, errors as ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import sqlalchemy as sa

from nexus.kernel.errors import UnavailableError

T = TypeVar("T")


class SqlThreads:
    """One engine's threads. `what` names the database in errors and its threads in a profile."""

    def __init__(self, engine: sa.Engine, what: str, *, writers: int) -> None:
        self._engine = engine
        self._what = what
        self._readers = ThreadPoolExecutor(4, thread_name_prefix=f"{what}-read")
        self._writers = ThreadPoolExecutor(writers, thread_name_prefix=f"{what}-write")

    def close(self, last: Callable[[], None] = lambda: None) -> None:
        """Wait for what runs, do `last`, and close every connection."""
        self._writers.shutdown()
        last()
        self._readers.shutdown()
        self._engine.dispose()

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """What `work` makes of a connection. Raises UnavailableError."""

        def read() -> T:
            with self._engine.connect() as connection:
                return work(connection)

        return await self._run(self._readers, read)

    async def write(self, work: Callable[[], T]) -> T:
        """What `work`, which has its own transaction, returns. Raises UnavailableError."""
        return await self._run(self._writers, work)

    async def _run(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, work)
        except sa.exc.OperationalError as error:
            hint = "Is the disk full, or the database server down? Nothing was changed; the call may be repeated."
            raise UnavailableError(f"the {self._what} does not answer: {error.orig}", hint=hint) from error
