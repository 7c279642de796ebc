"""What has to be looked at when nothing changes: one moment for each thing, the latest one set."""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

K = TypeVar("K")


class Timers(Generic[K]):
    """Setting, forgetting and taking what is due cost the same however many others wait."""

    def __init__(self) -> None:
        self._at: dict[K, float] = {}
        self._heap: list[tuple[float, K]] = []

    def __len__(self) -> int:
        return len(self._at)

    def set(self, key: K, at: float | None) -> None:
        """Look at `key` at this moment, not at the one set before; None: at none."""
        if at is None:
            self._at.pop(key, None)
        elif self._at.get(key) != at:
            self._at[key] = at
            heapq.heappush(self._heap, (at, key))

    def at(self, key: K) -> float | None:
        """The moment that is set."""
        return self._at.get(key)

    def due(self, now: float) -> list[K]:
        """Everything whose moment has come, earliest first; none of it is set any more."""
        found: list[K] = []
        while self._heap and self._heap[0][0] <= now:
            at, key = heapq.heappop(self._heap)
            if self._at.get(key) == at:
                del self._at[key]
                found.append(key)
        return found

    def next(self) -> float | None:
        """The earliest moment that is set."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None
