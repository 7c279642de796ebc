"""Packing and thinning."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from nexus.track.core.points import extent, pack, points, sketch, thin, unpack
from nexus.track.model import Points

FLOATS = st.floats(allow_nan=True, allow_infinity=True)


def line(values: list[float]) -> Points:
    return points(range(len(values)), map(float, range(len(values))), values)


@given(st.lists(FLOATS, max_size=50))
def test_packing_keeps_every_bit(values: list[float]) -> None:
    source = line(values)
    found = unpack(pack(source))
    assert found.values.tobytes() == source.values.tobytes()
    assert (found.steps, found.times) == (source.steps, source.times)


@given(st.lists(FLOATS, min_size=1, max_size=400), st.integers(2, 50))
def test_thinning_keeps_the_extremes_and_what_is_no_number(values: list[float], count: int) -> None:
    source = line(values)
    found = thin(source, count)
    assert list(found.steps) == sorted(found.steps)
    assert len(found) <= max(count, len(values) if len(values) <= count else 0) + count // 2 + 2
    finite = [value for value in values if math.isfinite(value)]
    low, high = extent(found.values)
    if finite:
        assert (low, high) == (min(finite), max(finite))
    else:
        assert math.isnan(low)
        assert math.isnan(high)
    assert any(map(math.isnan, found.values)) or not all(map(math.isnan, values))
    for step, value in zip(found.steps, found.values, strict=True):
        assert value == values[step] or math.isnan(values[step])


def test_short_series_are_not_thinned() -> None:
    source = line([1.0, 5.0, 2.0])
    assert thin(source, 3) is source


def test_a_sketch_of_a_sketch_still_has_the_spike() -> None:
    values = [math.sin(i / 1000) for i in range(100_000)]
    values[54_321] = 99.0
    found = thin(sketch(line(values)), 100)
    assert 99.0 in found.values
    assert len(found) <= 102
