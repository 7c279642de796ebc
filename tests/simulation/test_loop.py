"""The virtual loop itself: time jumps, and the same seed gives the same order."""

from __future__ import annotations

import asyncio

from tests.simulation.loop import VirtualClock, VirtualLoop, run_virtually


def _trace(seed: int) -> list[tuple[float, int]]:
    async def main(loop: VirtualLoop) -> list[tuple[float, int]]:
        clock, seen = VirtualClock(loop), []

        async def one(number: int) -> None:
            for _ in range(3):
                await clock.sleep(60.0)
                seen.append((clock.monotonic(), number))

        await asyncio.gather(*(one(number) for number in range(8)))
        return seen

    return run_virtually(seed, main)


def test_hours_pass_in_no_time_and_in_order() -> None:
    times = [at for at, _ in _trace(1)]
    assert times == sorted(times)
    assert times[-1] - times[0] == 120.0


def test_the_seed_decides_everything() -> None:
    assert _trace(1) == _trace(1)
    assert len({tuple(_trace(seed)) for seed in range(5)}) > 1


def test_a_cancelled_timer_does_not_move_time() -> None:
    async def main(loop: VirtualLoop) -> float:
        napping = asyncio.ensure_future(asyncio.sleep(3600.0))
        await asyncio.sleep(0)
        napping.cancel()
        await asyncio.sleep(1.0)
        return loop.time()

    assert run_virtually(1, main) == 1001.0
