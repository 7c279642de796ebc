"""One conformance suite for `MetricStore` on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nexus.kernel.errors import ConflictError, NotFoundError
from nexus.track.adapters.metrics_sql import SqlMetrics, open_metrics
from nexus.track.core.points import cut, points
from nexus.track.model import Batch, Points, StreamOwner
from tests.track.house import new_task, owner

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'metrics.db'}"
    new_database: Callable[[], str] = request.getfixturevalue("postgres")
    return new_database()


@pytest.fixture
def store(url: str) -> Iterator[SqlMetrics]:
    opened = open_metrics(url)
    yield opened
    opened.close()


def line(values: list[float], first: int = 0) -> Points:
    steps = range(first, first + len(values))
    return points(steps, (float(step) for step in steps), values)


def batch(who: StreamOwner, start: int, **columns: list[float]) -> Batch:
    return Batch(
        owner=who, stream="m-1.bin", start=start, end=start + 10, points={k: line(v, start) for k, v in columns.items()}
    )


async def test_points_come_back_in_order_and_bit_for_bit(store: SqlMetrics) -> None:
    who = owner()
    values = [0.1, math.inf, -math.inf, math.nan, -0.0, 5e-324]
    assert await store.append(batch(who, 0, loss=values)) == 10
    (series,) = await store.series([who.run])
    found = await store.points(series.id)
    assert found.values.tobytes() == line(values).values.tobytes()
    assert list(found.steps) == [0, 1, 2, 3, 4, 5]
    assert (series.n, series.step, series.value) == (6, 5, 5e-324)
    assert (series.low, series.high) == (-0.0, 0.1)
    assert (series.task, series.role, series.key) == (who.task, who.role, "loss")


async def test_a_series_without_numbers_has_no_extent(store: SqlMetrics) -> None:
    who = owner()
    await store.append(batch(who, 0, loss=[math.nan]))
    (series,) = await store.series([who.run])
    assert all(map(math.isnan, (series.value, series.low, series.high)))
    await store.append(batch(who, 10, loss=[2.0]))
    (series,) = await store.series([who.run])
    assert (series.value, series.low, series.high) == (2.0, 2.0, 2.0)


async def test_a_piece_that_comes_twice_or_too_early_is_refused(store: SqlMetrics) -> None:
    who = owner()
    await store.append(batch(who, 0, loss=[1.0]))
    for start in (0, 20):
        with pytest.raises(ConflictError) as caught:
            await store.append(batch(who, start, loss=[2.0]))
        assert caught.value.details["expected"] == 10
    assert await store.end(who.task, "m-1.bin") == 10
    assert await store.end(who.task, "m-2.bin") == 0
    (series,) = await store.series([who.run])
    assert series.n == 1


async def test_many_at_once_share_commits_and_stay_apart(store: SqlMetrics) -> None:
    owners = [owner(task=new_task(), index=i) for i in range(20)]
    for start in range(0, 50, 10):
        await asyncio.gather(*(store.append(batch(who, start, loss=[float(who.index)] * 3)) for who in owners))
    every = await store.series(["run_1"])
    assert len(every) == 20
    assert {(one.index, one.n, one.value) for one in every} == {(i, 15, float(i)) for i in range(20)}


async def test_of_two_writers_of_the_same_piece_one_wins(store: SqlMetrics) -> None:
    who = owner()
    results = await asyncio.gather(*(store.append(batch(who, 0, loss=[1.0])) for _ in range(5)), return_exceptions=True)
    assert sorted(map(str, map(type, results))).count(str(int)) == 1
    assert all(isinstance(result, int | ConflictError) for result in results)
    (series,) = await store.series([who.run])
    assert series.n == 1


async def test_small_pieces_are_merged_and_nothing_is_lost(store: SqlMetrics, url: str) -> None:
    who, rng = owner(), random.Random(7)
    expected: list[float] = []
    start = 0
    for _ in range(400):
        new = [rng.random() for _ in range(rng.choice([1, 1, 1, 2, 30, 900]))]
        await store.append(batch(who, start, loss=new))
        expected += new
        start += 10
    (series,) = await store.series([who.run])
    assert list((await store.points(series.id, limit=10**9)).values) == expected
    with store._threads._engine.connect() as connection:
        chunks = connection.exec_driver_sql("SELECT n FROM metric_chunk ORDER BY seq").scalars().all()
    assert sum(chunks) == len(expected)
    assert len(chunks) < 64 + len(expected) / 1000
    again = open_metrics(url)  # a new process knows nothing but the database
    await again.append(batch(who, start, loss=[1.5]))
    assert list((await again.points(series.id, limit=10**9)).values) == [*expected, 1.5]
    again.close()


async def test_points_after_a_number(store: SqlMetrics) -> None:
    who = owner()
    values = [float(i) for i in range(10_000)]
    await store.append(batch(who, 0, loss=values))
    (series,) = await store.series([who.run])
    assert list((await store.points(series.id, after=9_990)).values) == values[9_990:]
    assert list((await store.points(series.id, after=4_000, limit=200)).values) == values[4_000:4_200]
    assert len(await store.points(series.id, after=10_000)) == 0


async def test_params_are_replaced_by_name(store: SqlMetrics) -> None:
    who = owner()
    first = Batch(owner=who, stream="m", start=0, end=1, params={"lr": 0.1, "layers": [1, 2]})
    await store.append(first)
    await store.append(Batch(owner=who, stream="m", start=1, end=2, params={"lr": "0.2"}))
    assert await store.params(who.run) == {"layers": [1, 2], "lr": "0.2"}


async def test_a_chart_of_a_million_points_is_fast_and_keeps_the_spike(store: SqlMetrics) -> None:
    who = owner()
    values = [math.sin(i / 50_000) for i in range(1_000_000)]
    values[123_456] = 42.0
    whole, start = line(values), 0
    for first in range(0, len(values), 50_000):
        some = Batch(
            owner=who, stream="m", start=start, end=start + 1, points={"loss": cut(whole, first, first + 50_000)}
        )
        start = await store.append(some)
    (series,) = await store.series([who.run])
    assert series.n == 1_000_000
    await store.chart(series.id, 1500)
    begin = time.process_time()
    found = await store.chart(series.id, 1500)
    assert time.process_time() - begin < 0.1
    assert 1000 < len(found) <= 1503
    assert 42.0 in found.values
    assert list(found.steps) == sorted(found.steps)


async def test_what_is_not_there(store: SqlMetrics) -> None:
    assert await store.series(["run_none"]) == []
    assert await store.params("run_none") == {}
    with pytest.raises(NotFoundError):
        await store.chart("999", 10)
