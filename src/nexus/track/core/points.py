"""Points in columns: packed into the store's chunks, and thinned for charts without losing a spike. Pure.

Thinning keeps, of each stretch of points, the lowest, the highest and the first that is not a finite number
(min/max decimation: what a line drawn through all of them would cover on the screen). A chunk carries such a thinned
copy of itself, its sketch, so that a chart of a million points reads a few thousand.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Iterable

from nexus.track.model import Points

CHUNK_MAX = 4096  # points in one chunk
SKETCH_EVERY = 256  # points that a sketch thins to three at most
_NAN = float("nan")


def points(steps: Iterable[int] = (), times: Iterable[float] = (), values: Iterable[float] = ()) -> Points:
    """Columns from anything."""
    return Points(array("q", steps), array("d", times), array("d", values))


def extend(target: Points, more: Points) -> None:
    """Append `more` to the columns of `target`."""
    target.steps.extend(more.steps)
    target.times.extend(more.times)
    target.values.extend(more.values)


def cut(source: Points, start: int, end: int) -> Points:
    """The points from number `start` to before `end`."""
    return Points(source.steps[start:end], source.times[start:end], source.values[start:end])


def pick(source: Points, indices: Iterable[int]) -> Points:
    """The points with these numbers."""
    chosen = list(indices)
    return points(
        (source.steps[i] for i in chosen), (source.times[i] for i in chosen), (source.values[i] for i in chosen)
    )


def pack(source: Points) -> bytes:
    """The three columns one after the other, little-endian: 24 bytes a point."""
    if sys.byteorder == "big":
        source = cut(source, 0, len(source))
        _swap(source)
    return source.steps.tobytes() + source.times.tobytes() + source.values.tobytes()


def unpack(blob: bytes) -> Points:
    """What `pack` packed."""
    size = len(blob) // 3
    found = Points(array("q", blob[:size]), array("d", blob[size : 2 * size]), array("d", blob[2 * size :]))
    if sys.byteorder == "big":
        _swap(found)
    return found


def _swap(found: Points) -> None:
    for column in (found.steps, found.times, found.values):
        column.byteswap()


def extent(values: array[float]) -> tuple[float, float]:
    """The smallest and largest finite value; NaN twice if there is none."""
    if values and math.isfinite(sum(values)):
        return min(values), max(values)
    finite = [value for value in values if math.isfinite(value)]
    return (min(finite), max(finite)) if finite else (_NAN, _NAN)


def sketch(source: Points, every: int = SKETCH_EVERY) -> Points:
    """At most three points of each `every`: the lowest, the highest, the first that is not finite. In order."""
    chosen: list[int] = []
    values = source.values
    for start in range(0, len(values), every):
        part = values[start : start + every]
        chosen.extend(start + i for i in _extremes(part))
    return pick(source, chosen)


def thin(source: Points, count: int) -> Points:
    """About `count` points at most that draw like all of them; all, if there are no more than that."""
    if len(source) <= count:
        return source
    stretches = max(1, count // 2)
    return sketch(source, math.ceil(len(source) / stretches))


def _extremes(part: array[float]) -> list[int]:
    if math.isfinite(sum(part)):
        low, high = part.index(min(part)), part.index(max(part))
        return [low] if low == high else sorted((low, high))
    finite = [i for i, value in enumerate(part) if math.isfinite(value)]
    odd = next((i for i, value in enumerate(part) if not math.isfinite(value)), None)
    found = set() if odd is None else {odd}
    if finite:
        found |= {min(finite, key=part.__getitem__), max(finite, key=part.__getitem__)}
    return sorted(found)
