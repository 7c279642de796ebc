"""What travels: JSON has no NaN and no infinity, so these go as the words that JavaScript and Python both read back."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from nexus.track.core.points import points
from nexus.track.model import Series
from nexus.track.service.metrics import Curve, News, Summary

Number = float | str  # a str is NaN, Infinity or -Infinity: Number(text) in JavaScript, float(text) in Python


@dataclass(frozen=True, slots=True)
class Offset:
    """How many bytes of the stream are kept. The same words as `launch.protocol.Offset`."""

    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A blob that is here now."""

    digest: str
    size_b: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesBody:
    """`model.Series` as JSON."""

    id: str
    run: str
    task: str
    role: str
    index: int
    attempt: int
    key: str
    n: int
    step: int
    at: float
    value: Number
    low: Number
    high: Number


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveBody:
    """Points of one series, in columns."""

    series: SeriesBody
    steps: list[int]
    times: list[float]
    values: list[Number]
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryBody:
    """What a run has logged."""

    series: list[SeriesBody]
    params: dict[str, Any]
    cursor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewsBody:
    """New points of a run, and the cursor after them."""

    curves: list[CurveBody]
    cursor: str
    end: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion:
    """A version to register: an uploaded blob, and what is known of where it came from."""

    digest: str
    packed: bool = False
    run: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    meta: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasTarget:
    """The version that an alias shall mean."""

    version: int


_NUMBERS = ("value", "low", "high")


def number(value: float) -> Number:
    """A float as JSON can carry it."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _numbers(values: array[float]) -> list[Number]:
    plain: list[Number] = [*values]
    return plain if math.isfinite(sum(values)) else [number(value) for value in values]


def series_body(series: Series) -> SeriesBody:
    """To JSON."""
    known = {name.name: getattr(series, name.name) for name in fields(series)}
    return SeriesBody(**{**known, **{name: number(known[name]) for name in _NUMBERS}})


def read_series(body: SeriesBody) -> Series:
    """From JSON."""
    known = {name.name: getattr(body, name.name) for name in fields(body)}
    return Series(**{**known, **{name: float(known[name]) for name in _NUMBERS}})


def curve_body(curve: Curve) -> CurveBody:
    """To JSON."""
    return CurveBody(
        series=series_body(curve.series),
        steps=curve.points.steps.tolist(),
        times=curve.points.times.tolist(),
        values=_numbers(curve.points.values),
        after=curve.after,
    )


def read_curve(body: CurveBody) -> Curve:
    """From JSON."""
    found = points(body.steps, body.times, (float(value) for value in body.values))
    return Curve(series=read_series(body.series), points=found, after=body.after)


def curve_bodies(curves: Sequence[Curve]) -> list[CurveBody]:
    """To JSON."""
    return [curve_body(curve) for curve in curves]


def summary_body(summary: Summary) -> SummaryBody:
    """To JSON."""
    return SummaryBody(
        series=[series_body(one) for one in summary.series], params=summary.params, cursor=summary.cursor
    )


def read_summary(body: SummaryBody) -> Summary:
    """From JSON."""
    return Summary(series=tuple(read_series(one) for one in body.series), params=body.params, cursor=body.cursor)


def news_body(news: News) -> NewsBody:
    """To JSON."""
    return NewsBody(curves=curve_bodies(news.curves), cursor=news.cursor, end=news.end)


def read_news(body: NewsBody) -> News:
    """From JSON."""
    return News(curves=tuple(read_curve(one) for one in body.curves), cursor=body.cursor, end=body.end)
