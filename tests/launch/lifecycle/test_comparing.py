"""Comparing places: whole machines are counted, the cheapest way in each place is found, what does not fit is said."""

from __future__ import annotations

import itertools
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from nexus.launch.core.comparing import Alternative, Comparison, compare
from nexus.launch.core.policy import Policy
from nexus.launch.model import Capacity, Gpu, Offer, Placement, RunPlan
from tests.launch.build import GB, needs, plan, role


def offer(machine: str, price: float, *, gpus: int = 0, where: str = "aws:us-east-1", **more: object) -> Offer:
    provider, region = where.split(":")
    capacity = Capacity(cpu=16, memory_b=64 * GB, disk_b=1000 * GB, gpus=(Gpu("H100", 80 * GB),) * gpus)
    fields = {"capacity": capacity, "network": where, "unavailable": "cannot start", **more}
    return Offer(id=f"{where}:{machine}", provider=provider, machine=machine, region=region, price=price, **fields)  # type: ignore[arg-type]


def compared(job: RunPlan, *offers: Offer) -> Comparison:
    return compare(job, Placement(reason="no node"), offers, Policy(), fleets={"fleet_1": "lab"})


def gpus(count: int, gpu: int = 1, **more: object) -> RunPlan:
    return plan(role("w", count, needs=needs(gpu=gpu, gpu_names=("H100",))), **more)


def refused(comparison: Comparison) -> dict[str, int]:
    return {one.reason: one.count for one in comparison.refused}


def first(comparison: Comparison) -> Alternative:
    return comparison.alternatives[0]


def test_each_place_has_its_cheapest_way_and_the_cheapest_place_is_first() -> None:
    found = compared(
        gpus(2),
        offer("one", 3.0, gpus=1),
        offer("two", 5.0, gpus=2),
        offer("one", 2.0, gpus=1, where="lambda:us-west-1"),
        offer("fleet", 0.0, gpus=4, where="slurm:x", fleet="fleet_1", unavailable=""),
    )
    assert [(one.where, one.price) for one in found.alternatives] == [
        ("slurm:lab", 0.0),
        ("lambda:us-west-1", 4.0),
        ("aws:us-east-1", 5.0),
    ]
    assert first(found).gpus == {"H100": 4}
    assert [(one.machine, one.count) for one in found.alternatives[1].machines] == [("one", 2)]
    assert found.startable == first(found)


def test_spot_is_a_place_of_its_own_with_the_rate_at_which_it_is_taken_away() -> None:
    kept = offer("m", 4.0, gpus=1)
    spot = replace(kept, id="s", price=1.0, spot=True)
    found = compared(gpus(1), kept, spot)
    assert [(one.price, one.spot, one.reclaims_per_h) for one in found.alternatives] == [
        (1.0, True, 0.05),
        (4.0, False, 0),
    ]
    never = compared(plan(role(needs=needs(gpu=1, spot="never"))), kept, spot)
    assert [one.spot for one in never.alternatives] == [False]
    assert refused(never) == {"may be taken away": 1}


def test_a_gang_takes_several_hosts_of_a_fleet_that_has_one_of_each() -> None:
    hosts = [offer(f"host-{at}", at, gpus=2, where="ssh:x", fleet="fleet_1", count=1) for at in (1.0, 2.0, 9.0)]
    found = first(compared(gpus(4), *hosts))
    assert found.price == 3.0
    assert [one.machine for one in found.machines] == ["host-1.0", "host-2.0"]
    assert refused(compared(gpus(7), *hosts)) == {"too few for all tasks at once": 3}


def test_a_gang_that_needs_a_fast_network_does_not_go_where_none_is_known() -> None:
    lone = [offer(f"h{at}", 1.0, gpus=1, count=1, network="") for at in range(2)]
    assert compared(gpus(2, network="fast"), *lone).alternatives == ()
    assert first(compared(gpus(2), *lone)).price == 2.0
    assert first(compared(gpus(1, network="fast"), *lone)).price == 1.0


def test_every_offer_that_does_not_fit_is_counted_with_its_reason() -> None:
    job = plan(
        role(needs=needs(cpu=8, memory_b=32 * GB, gpu=2, gpu_names=("H100",), regions=("us-*",))), max_price=10.0
    )
    right = offer("ok", 5.0, gpus=2)
    small = replace(right.capacity, memory_b=GB)
    found = compared(
        job,
        right,
        offer("dear", 50.0, gpus=2, where="gcp:us-x"),
        offer("far", 1.0, gpus=2, where="aws:eu-west-1"),
        offer("few", 1.0, gpus=1),
        offer("none", 1.0),
        replace(right, id="small", capacity=small),
        replace(right, id="slow", capacity=replace(right.capacity, cpu=4)),
    )
    assert found.offers == 7
    assert [one.where for one in found.alternatives] == ["aws:us-east-1"]
    assert refused(found) == {
        "over max_price": 1,
        "in other regions": 1,
        "fewer than 2 accelerators": 1,
        "other accelerators, or none": 1,
        "less memory than 32 GB": 1,
        "fewer than 8 cpus": 1,
    }


def test_roles_are_priced_on_machines_of_their_own() -> None:
    job = plan(role("server", needs=needs(cpu=1)), role("client", 2, needs=needs(gpu=1)))
    found = first(compared(job, offer("cpu", 0.5), offer("gpu", 3.0, gpus=1)))
    assert found.price == 6.5
    assert sorted((one.machine, one.count) for one in found.machines) == [("cpu", 1), ("gpu", 2)]


@given(
    st.integers(1, 6),
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 3)), min_size=1, max_size=4),
)
def test_the_cheapest_of_one_kind_is_never_beaten_by_another_kind_alone(
    tasks: int, kinds: list[tuple[int, int, int]]
) -> None:
    """Against every number of machines of every kind: never worse than one kind, never better than the best of all."""
    offers = [offer(f"m{at}", float(price), gpus=size, count=count) for at, (size, price, count) in enumerate(kinds)]
    found = compared(gpus(tasks), *offers)
    ranges = [range(count + 1) for _, _, count in kinds]
    ways = [
        (sum(n * price for n, (_, price, _) in zip(numbers, kinds, strict=True)), numbers)
        for numbers in itertools.product(*ranges)
        if sum(n * size for n, (size, _, _) in zip(numbers, kinds, strict=True)) >= tasks
    ]
    alone = [price for price, numbers in ways if sum(n > 0 for n in numbers) == 1]
    if not ways:
        assert found.alternatives == ()
        return
    assert first(found).price >= min(price for price, _ in ways)
    if alone:
        assert first(found).price <= min(alone)
