"""Batches that form by themselves: what arrives while the last batch is worked on is the next one.

No timer, so a lone request waits for nothing: it is flushed at the loop's next turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from nexus.kernel.errors import NexusError

MOST = 256  # inputs in one batch


class Batcher:
    """Asks `predict_batch` with all inputs that are at hand."""

    def __init__(self, predict_batch: Callable[[list[Any]], Sequence[Any]], most: int = MOST) -> None:
        self._predict = predict_batch
        self._most = most
        self._waiting: list[tuple[Any, asyncio.Future[Any]]] = []
        self._task: asyncio.Task[None] | None = None

    async def ask(self, inputs: Any) -> Any:
        """One input's answer. Raises what the predictor raises for this input."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((inputs, future))
        if self._task is None:
            self._task = loop.create_task(self._work())
        return await future

    async def _work(self) -> None:
        """Batch after batch, until nobody waits."""
        while self._waiting:
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            await self._answer(batch)
        self._task = None

    def _checked(self, inputs: list[Any]) -> Sequence[Any]:
        answers = self._predict(inputs)
        if len(answers) != len(inputs):
            raise NexusError(f"predict_batch gave {len(answers)} answers to {len(inputs)} inputs")
        return answers

    async def _answer(self, batch: list[tuple[Any, asyncio.Future[Any]]]) -> None:
        try:
            answers = await asyncio.to_thread(self._checked, [inputs for inputs, _ in batch])
        except Exception as problem:
            if len(batch) == 1:
                _fail(batch[0][1], problem)
                return
            for one in batch:  # one bad input must not fail its neighbours
                await self._answer([one])
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)


def _fail(future: asyncio.Future[Any], problem: Exception) -> None:
    if not future.done():
        future.set_exception(problem)
