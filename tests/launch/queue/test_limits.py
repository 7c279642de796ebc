"""Quotas, tallies and months."""

from __future__ import annotations

import pytest

from nexus.launch.core.queue.limits import MONTHS, charged, month_of, overspent, refusal, spent_this_month
from nexus.launch.core.queue.shares import Amount, Held, decayed, work_of
from nexus.launch.model import Capacity, Gpu, Quota, Usage
from tests.launch.build import GB, task

NOW = 1_795_000_000.0  # in November 2026


def quota(**limits: object) -> Quota:
    return Quota(id="q", project="p", created=0.0, **limits)  # type: ignore[arg-type]


def test_every_limit_refuses_in_words() -> None:
    held = Held()
    held.add(task(cpu=3.0, memory_b=3 * GB, gpus=(0, 1), price=2.0), "ada")
    tally = held.project("p")
    for limits, more, words in (
        ({"gpus": 2}, Amount(gpus=1), "may hold 2 gpus at once; this takes 1"),
        ({"cpu": 4.0}, Amount(cpu=2.0), "may hold 4 cpu at once; this takes 2"),
        ({"memory_b": 4 * GB}, Amount(memory_b=2 * GB), "memory at once"),
        ({"price": 2.5}, Amount(price=1.0), "may hold 2.50 per hour at once; this takes 1.00"),
    ):
        assert words in refusal(quota(**limits), tally, more)
    assert refusal(quota(gpus=3, cpu=5.0, price=3.0), tally, Amount(1, 2.0, GB, 1.0)) == ""
    assert refusal(None, tally, Amount(99, 99.0)) == ""
    assert refusal(quota(gpus=0), Held().project("p"), Amount(cpu=1.0)) == "", "who needs no gpu is not refused one"


def test_a_budget_counts_what_ended_this_month_and_what_runs() -> None:
    held = Held()
    held.add(task(price=3.6, created=NOW - 1000.0), "ada")  # 1.00 so far
    usage = Usage(id="u", project="p", created=0.0, spent={month_of(NOW): 9.5, "2026-10": 1e6})
    assert spent_this_month(usage, NOW) == 9.5
    assert "has spent its budget of 10.00 for 2026-11" in overspent(quota(budget=10.0), usage, held.project("p"), NOW)
    assert overspent(quota(budget=10.6), usage, held.project("p"), NOW) == ""
    assert overspent(quota(), usage, held.project("p"), NOW) == ""


def test_old_months_are_forgotten() -> None:
    spent: dict[str, float] = {}
    for month in range(20):
        spent = charged(spent, 1.0, NOW + month * 31 * 86400.0)
    assert len(spent) == MONTHS
    assert sum(charged(spent, 0.5, NOW + 19 * 31 * 86400.0).values()) == pytest.approx(MONTHS + 0.5)


def test_dominant_shares() -> None:
    held = Held()
    held.put_node("n", "", Capacity(10.0, 100 * GB, 0, (Gpu("A100"),) * 4))
    held.add(task(id="a", cpu=1.0, gpus=(0, 1)), "ada")
    held.add(task(id="b", cpu=0.0), "eve")  # reserves nothing: counts as one cpu
    held.add(task(id="a", cpu=1.0, gpus=(0, 1)), "ada")  # again is once
    assert held.share("p") == 0.5
    assert held.user_share("p", "eve") == pytest.approx(0.1)
    held.remove("a")
    held.remove("a")
    assert held.share("p") == pytest.approx(0.1)
    held.remove("b")
    assert (held.projects, held.users) == ({}, {})


def test_work_decays() -> None:
    done = task(cpu=2.0, created=0.0, ended=100.0, gpus=())
    assert work_of([done, task(created=0.0)]) == 200.0
    usage = Usage(id="u", project="p", created=0.0, work=200.0, at=0.0)
    assert decayed(usage, 86400.0, 86400.0) == pytest.approx(100.0)
    assert decayed(None, 0.0, 1.0) == 0.0
