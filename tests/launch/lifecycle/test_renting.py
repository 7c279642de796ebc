"""What is started for a need: the machine that costs least as a whole, not for each accelerator."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.kernel.units import Range
from nexus.launch.core.demand import Demand, Offered
from nexus.launch.core.policy import Policy
from nexus.launch.core.renting import filled_part, rented_price
from nexus.launch.core.scheduling import Unmet
from nexus.launch.model import Capacity, Fleet, Gpu, GpuNeed, Needs, Offer, RolePlan, Run, RunPlan

FLEET = Fleet(id="fleet_1", project="default", created=0.0, name="lab", provider="slurm")


def offer(name: str, price: float, *, gpus: int = 0, cpu: float = 8.0) -> Offer:
    capacity = Capacity(cpu=cpu, memory_b=64 * 1024**3, gpus=(Gpu("H100", 80 * 1024**3),) * gpus)
    return Offer(id=name, provider="slurm", machine=name, capacity=capacity, price=price)


def a_plan(count: int, *, gpus: int = 0, cpu: float = 1.0, max_price: float | None = None) -> RunPlan:
    needs = Needs(cpu=Range(cpu, None), gpu=GpuNeed(count=gpus))
    return RunPlan(kind="command", roles=(RolePlan(name="w", count=count, needs=needs),), max_price=max_price)


def wanted(plan: RunPlan) -> tuple[tuple[str, int], ...]:
    return tuple((role.name, index) for role in plan.roles for index in range(role.count))


def started(plan: RunPlan, *offers: Offer) -> list[str]:
    """The machines that are asked for when nothing is there."""
    run = Run(id="run_1", project="default", created=0.0, name="r", kind="command", plan=plan)
    ids = (f"mach_{number}" for number in itertools.count())
    demand = Demand([FLEET], [], {FLEET.id: Offered(offers, 0.0)}, {}, {}, 0.0, Policy(), lambda: next(ids))
    demand.meet([Unmet(run=run, wanted=wanted(plan), spent=0.0, reason="no node")], [], [])
    return sorted(machine.offer.machine for machine in demand.new)


LARGE, SMALL = offer("a-large", 15.2, gpus=8), offer("small", 2.0, gpus=1)


def test_a_small_need_gets_a_small_machine_though_the_large_one_is_cheaper_by_the_accelerator() -> None:
    assert started(a_plan(1, gpus=1), LARGE, SMALL) == ["small"]


def test_a_need_that_fills_the_large_machine_gets_it() -> None:
    assert started(a_plan(8, gpus=1), LARGE, SMALL) == ["a-large"]
    assert started(a_plan(2, gpus=1), LARGE, SMALL) == ["small", "small"]


def test_max_price_is_held_against_the_whole_machine() -> None:
    assert started(a_plan(1, gpus=1, max_price=10.0), LARGE) == []
    assert started(a_plan(1, gpus=1, max_price=16.0), LARGE) == ["a-large"]


def test_of_machines_that_cost_nothing_the_smallest_share_is_taken() -> None:
    shares = [offer(f"{cpu}cpu", 0.0, cpu=cpu) for cpu in (16, 1, 128, 2)]
    assert started(a_plan(1), *shares) == ["1cpu"]
    assert started(a_plan(1, cpu=2.0, max_price=0.0), *shares) == ["2cpu"]


@given(st.integers(1, 20), st.integers(1, 8), st.floats(0.01, 100))
def test_the_price_of_all_tasks_is_that_of_the_machines_that_they_fill(count: int, gpus: int, price: float) -> None:
    machine, plan = offer("m", price, gpus=8), a_plan(count, gpus=gpus)
    fit = 8 // gpus
    each = rented_price(plan, wanted(plan), machine) * gpus / 8
    assert each * min(count, fit) == pytest.approx(price)
    assert filled_part(plan, wanted(plan), machine) == pytest.approx(min(count, fit) * gpus / 8)
