"""Group commit: transactions that are handed in while one is being written share the next write to the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from nexus.kernel.errors import NexusError
from nexus.kernel.events import Event
from nexus.kernel.records import Change

_MOST = 500  # transactions in one write: the first of them waits for the last
Outcome = NexusError | None


@dataclass(slots=True)
class Transaction:
    """What one `apply` was given; `stored` is what is there once it was written."""

    changes: Sequence[Change]
    events: Sequence[Event]
    stored: Sequence[Change] = field(default_factory=list)


class GroupCommit:
    """Writes in the order of handing in. `write` answers one outcome each; `tell` hears what was written, in order.

    Whoever stops waiting for a transaction changes nothing about it.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Transaction]], Awaitable[Sequence[Outcome]]],
        tell: Callable[[Sequence[Change], Sequence[Event]], None],
    ) -> None:
        self._write = write
        self._tell = tell
        self._waiting: list[tuple[Transaction, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def apply(self, transaction: Transaction) -> None:
        """Return once it is durable and told. Raises its outcome, or what `write` raised."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((transaction, done))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all(), name="group commit")
        await done

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
                await self._write_some(batch)
        finally:
            self._writing = None

    async def _write_some(self, batch: Sequence[tuple[Transaction, asyncio.Future[None]]]) -> None:
        outcomes: Sequence[Exception | None]
        try:
            outcomes = await self._write([transaction for transaction, _ in batch])
        except Exception as error:
            outcomes = [error] * len(batch)
        for (transaction, done), outcome in zip(batch, outcomes, strict=True):
            if outcome is None:
                self._tell(transaction.stored, transaction.events)
            if done.done():  # nobody waits any more
                continue
            if outcome is None:
                done.set_result(None)
            else:
                done.set_exception(outcome)
