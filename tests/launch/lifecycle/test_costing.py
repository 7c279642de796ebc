"""Bills: every second is charged once, in the window, on the right line; idle is what nobody held."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.launch.core.costing import DAY_S, Bill, By
from nexus.launch.ports import MachineSpan, Span

NOON = 20_000 * DAY_S + DAY_S / 2


def span(run: str = "r1", **more: object) -> Span:
    fields = {
        "project": "p",
        "name": "job",
        "user": "ann",
        "node": "n1",
        "price": 2.0,
        "start": NOON,
        "end": NOON + 3600,
    }
    return Span(run=run, **{**fields, **more})  # type: ignore[arg-type]


def bill(by: By, *spans: Span, since: float = 0.0, until: float = 1e12, now: float = NOON + 7200) -> Bill:
    made = Bill(by, since, until, now)
    for one in spans:
        made.add(one)
    return made


def test_lines_are_what_was_asked_for_dearest_first() -> None:
    spans = [span("r1"), span("r2", user="bob", name="big", price=6.0, node="n2"), span("r1", price=1.0)]
    by_run = bill(By.RUN, *spans).report(limit=10)
    assert [(row.key, row.label, row.user, row.cost, row.tasks) for row in by_run.rows] == [
        ("r2", "big", "bob", 6.0, 1),
        ("r1", "job", "ann", 3.0, 2),
    ]
    assert by_run.total == 9.0
    assert [row.key for row in bill(By.USER, *spans).report(limit=10).rows] == ["bob", "ann"]
    assert [row.key for row in bill(By.PROJECT, *spans).report(limit=10).rows] == ["p"]
    named = bill(By.NODE, *spans).report(names={"n2": "gpu-7"}, limit=10)
    assert [row.label for row in named.rows] == ["gpu-7", "n1"]


def test_what_runs_is_counted_until_now_and_what_is_outside_the_window_is_not() -> None:
    running = span(end=None)
    assert bill(By.RUN, running).report(limit=1).total == pytest.approx(4.0)
    assert bill(By.RUN, running, since=NOON + 3600).report(limit=1).total == pytest.approx(2.0)
    assert bill(By.RUN, span(), since=NOON + 3600).report(limit=1).rows == ()
    assert bill(By.RUN, running, until=NOON + 1800).report(limit=1).total == pytest.approx(1.0)


def test_a_night_is_two_days() -> None:
    night = span(start=NOON, end=NOON + DAY_S)
    report = bill(By.DAY, night, now=NOON + 10 * DAY_S).report(limit=10)
    assert [(row.label, row.cost) for row in report.rows] == [("2024-10-04", 24.0), ("2024-10-05", 24.0)]
    last = bill(By.DAY, night, now=NOON + 10 * DAY_S).report(limit=1)
    assert [row.label for row in last.rows] == ["2024-10-05"]
    assert last.rest is not None
    assert last.rest.cost == 24.0


def test_what_is_not_shown_is_summed() -> None:
    report = bill(By.RUN, *[span(f"r{number}", price=float(number)) for number in range(1, 6)]).report(limit=2)
    assert [row.cost for row in report.rows] == [5.0, 4.0]
    assert report.rest is not None
    assert (report.rest.label, report.rest.cost, report.rest.tasks) == ("3 more", 6.0, 3)
    assert report.total == 15.0


def test_a_fleets_idle_time_stands_apart() -> None:
    machines = [
        MachineSpan("lab", "gpu-1", "n1", 2.0, NOON, NOON + 7200),  # an hour of two was held
        MachineSpan("lab", "gpu-2", "", 2.0, NOON, NOON + 3600),  # its agent never came
        MachineSpan("full", "gpu-3", "n2", 2.0, NOON, NOON + 3600),
    ]
    report = bill(By.RUN, span(), span("r2", node="n2")).report(machines, limit=10)
    assert [(one.fleet, one.cost) for one in report.idle] == [("lab", 4.0)]
    assert report.total == pytest.approx(8.0)


TIMES = st.integers(0, 40).map(lambda quarter: NOON + quarter * DAY_S / 8)


@given(
    st.lists(st.tuples(TIMES, TIMES, st.integers(1, 50), st.sampled_from("ab"), st.sampled_from("xyz")), max_size=20),
    TIMES,
    TIMES,
    st.integers(1, 5),
)
def test_every_way_to_divide_a_bill_comes_to_the_same(
    tasks: list[tuple[float, float, int, str, str]], since: float, until: float, limit: int
) -> None:
    spans = [span(run, user=user, price=price, start=a, end=b) for a, b, price, user, run in tasks]
    expected = sum(price * max(0.0, min(b, until) - max(a, since)) / 3600 for a, b, price, _, _ in tasks)
    for by in By:
        report = bill(by, *spans, since=since, until=until).report(limit=limit)
        assert report.total == pytest.approx(expected)
        shown = sum(row.cost for row in report.rows) + (report.rest.cost if report.rest else 0.0)
        assert shown == pytest.approx(expected)
        assert len(report.rows) <= limit
