"""One timer for every deadline: adding and dropping one is a set operation, not a heap's."""

from __future__ import annotations

import asyncio
from typing import Protocol

TICK_S = 0.25


class Timed(Protocol):
    """Something with a deadline. `slot` is the wheel's own."""

    slot: int

    def expired(self) -> None:
        """The deadline has passed; called once."""
        ...


class Wheel:
    """Deadlines, each at most `TICK_S` late."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[int, set[Timed]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, item: Timed, seconds: float) -> None:
        """Call `item.expired()` when `seconds` have passed, unless it is dropped before."""
        item.slot = slot = int((self._loop.time() + seconds) / TICK_S) + 1
        found = self._slots.get(slot)
        if found is None:
            self._slots[slot] = {item}
        else:
            found.add(item)
        if self._timer is None:
            self._timer = self._loop.call_later(TICK_S, self._turn)

    def drop(self, item: Timed) -> None:
        """Forget the item's deadline."""
        found = self._slots.get(item.slot)
        if found is not None:
            found.discard(item)

    def _turn(self) -> None:
        now = int(self._loop.time() / TICK_S)
        self._timer = None
        due = [slot for slot in self._slots if slot <= now]
        for slot in sorted(due):
            items = self._slots[slot]  # stays where `drop` finds it: one deadline may drop another of its moment
            while items:
                items.pop().expired()
            del self._slots[slot]
        if self._slots and self._timer is None:
            self._timer = self._loop.call_later(TICK_S, self._turn)

    def stop(self) -> None:
        """Forget everything."""
        self._slots.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
