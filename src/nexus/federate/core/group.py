"""Small models of several clients, trained at once when the first of them is asked for.

Who is expected next is only a hint: a client that starts from another model, trains on other samples or fits a second
time is trained alone, with the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nexus.federate.core.dense import Client, Dense
from nexus.federate.core.seeds import derive
from nexus.federate.core.task import Pair, Task
from nexus.federate.core.total import Array
from nexus.federate.model import Local


@dataclass(frozen=True, slots=True)
class Fitted:
    """One client's training: its weights, and its dice as they are afterwards."""

    weights: Array
    steps: int
    loss: float
    dice: np.random.Generator


class Group:
    """What is known of the clients that come next."""

    def __init__(self, dense: Dense, task: Task, seed: int, local: Local) -> None:
        self._dense = dense
        self._task = task
        self._seed = seed
        self._local = local
        self._together = dense.together
        self._number = 0
        self._expected: list[int] = []
        self._data: dict[int, Pair] = {}
        self._fitted: dict[int, Fitted] = {}
        self._start: Array | None = None  # what those were trained from

    def expect(self, clients: Sequence[int], number: int) -> None:
        """These clients come next."""
        self._expected, self._number = list(clients), number
        self._data, self._fitted = {}, {}

    def data(self, client: int, number: int) -> Pair:
        """A client's samples, which may have been fetched already."""
        fetched = self._data.pop(client, None) if number == self._number else None
        return fetched or self._task.data(client)

    def fit(
        self, start: Array, x: torch.Tensor, y: torch.Tensor, dice: np.random.Generator, fresh: tuple[int, int] | None
    ) -> Fitted | None:
        """Train on these samples. `fresh`: the client and the round, if they are the client's own and the dice are new.

        None if the samples are of another kind.
        """
        if fresh is not None and self._start is not None:
            found = self._fitted.pop(fresh[0], None) if fresh[1] == self._number else None
            if found is not None:
                if np.array_equal(start, self._start):
                    return found
                self._together = 1  # an algorithm with a start for each client
        samples = self._dense.samples(x, y)
        if samples is None:
            return None
        clients, generators = [self._client(*samples, dice)], [dice]
        after = self._after(fresh) if fresh is not None else {}
        for other, (rows, labels) in after.items():
            generators.append(np.random.default_rng(derive(self._seed, "turn", self._number, other)))
            clients.append(self._client(rows, labels, generators[-1]))
        learnt = self._dense.fit(start, clients, self._local.batch, self._local.lr)
        fitted = [
            Fitted(weights, steps, float(loss), generator)
            for weights, steps, loss, generator in zip(
                learnt.weights, learnt.steps, learnt.losses, generators, strict=True
            )
        ]
        if after:
            self._start = start.copy()
            self._fitted = dict(zip(after, fitted[1:], strict=True))
        return fitted[0]

    def _after(self, fresh: tuple[int, int]) -> dict[int, tuple[Array, Any]]:
        """The samples of those who follow this client and fit into the cache with it, up to one that cannot be had."""
        client, number = fresh
        if number != self._number or client not in self._expected:
            return {}
        at = self._expected.index(client) + 1
        found: dict[int, tuple[Array, Any]] = {}
        for other in self._expected[at : at + self._together - 1]:
            try:
                x, y = self._task.data(other)
            except Exception:
                break  # told when its turn comes
            samples = self._dense.samples(torch.as_tensor(x), torch.as_tensor(y))
            if samples is None or not len(x) or len(x) != len(y):
                break
            self._data[other] = (x, y)
            found[other] = samples
        return found

    def _client(self, x: Array, y: Any, dice: np.random.Generator) -> Client:
        return Client(x, y, [dice.permutation(len(y)) for _ in range(self._local.epochs)])
