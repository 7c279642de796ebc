"""The gateway's deadlines: none is forgotten, and what was dropped is not called."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from nexus.deploy.adapters.gateway.wheel import TICK_S, Wheel

pytestmark = pytest.mark.anyio


@dataclass(eq=False)
class Item:
    wheel: Wheel
    slot: int = -1
    drops: list[Item] = field(default_factory=list)
    called: int = 0

    def expired(self) -> None:
        self.called += 1
        for other in self.drops:
            self.wheel.drop(other)


async def test_a_deadline_is_called_once_and_in_time():
    wheel = Wheel(asyncio.get_running_loop())
    soon, later, never = Item(wheel), Item(wheel), Item(wheel)
    wheel.add(soon, 0.0)
    wheel.add(later, 60.0)
    wheel.add(never, 0.0)
    wheel.drop(never)
    await asyncio.sleep(3 * TICK_S)
    assert (soon.called, later.called, never.called) == (1, 0, 0)
    wheel.stop()


async def test_one_deadline_may_drop_another_of_the_same_moment():
    """As a request that timed out does with its client's connection, which goes on for a while to be read empty."""
    wheel = Wheel(asyncio.get_running_loop())
    items = [Item(wheel) for _ in range(20)]
    for item in items:
        item.drops = [other for other in items if other is not item]
        wheel.add(item, 0.0)
    await asyncio.sleep(3 * TICK_S)
    assert sum(item.called for item in items) == len({item.slot for item in items})
    wheel.stop()
