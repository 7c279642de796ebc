"""Counterfactuals: each that is named is checked by making the change."""

from __future__ import annotations

from nexus.kernel.units import Range
from nexus.launch.core.placement.rooms import Rooms
from nexus.launch.core.placement.whatif import in_words, whatif
from nexus.launch.model import Gpu, GpuNeed, Needs, RunPlan
from tests.launch.build import GB, needs, node, plan, role, task

A100, H100 = Gpu("NVIDIA A100", 40 * GB), Gpu("NVIDIA H100", 80 * GB)
ONE = [("main", 0)]


def said(of: RunPlan, rooms: Rooms) -> list[str]:
    return in_words(whatif(of, ONE, rooms))


def test_a_place_that_there_is_not_names_every_change_that_would_give_one() -> None:
    rooms = Rooms.of([node("a", region="us-1", price=2.0), node("b", region="us-1", price=2.0, labels={"site": "x"})])
    of = plan(role(needs=needs(cpu=4, regions=("eu-*", "ap-*"))))
    assert said(of, rooms) == ["without the regions eu-* or ap-*: it fits now, for 2.00/h, 2 more nodes could take it"]
    assert said(plan(role(needs=needs(cpu=4, labels={"site": "y"}))), rooms) == [
        "without the label site: it fits now, for 2.00/h, 2 more nodes could take it"
    ]


def test_max_price_is_named_as_what_would_be_enough() -> None:
    rooms = Rooms.of([node("a", price=1.894)])
    of = plan(role(needs=needs(cpu=4)), max_price=1.5)
    assert said(of, rooms) == ["with max_price 1.90: it fits now, for 1.89/h"]
    assert rooms.place(plan(role(needs=needs(cpu=4)), max_price=1.9), ONE).fits


def test_a_cheaper_place_is_worth_a_word_and_a_dearer_one_is_not() -> None:
    rooms = Rooms.of(
        [
            node("a", gpus=(A100,), price=1.52, region="eu-1"),
            node("b", gpus=(A100,), price=1.21, region="us-1"),
            node("c", gpus=(H100,), price=3.0, region="eu-1", spot=True),
        ]
    )
    of = plan(role(needs=Needs(gpu=GpuNeed(1, ("A100",)), regions=("eu-*",), spot="never")))
    assert said(of, rooms) == ["without the region eu-*: 0.31/h cheaper, 1 more node could take it"]


def test_a_full_cluster_is_helped_by_no_change() -> None:
    rooms = Rooms.of([node("a", cpu=4)], [task(cpu=4.0)])
    assert said(plan(role(needs=needs(cpu=1, regions=("eu",)))), rooms) == []


def test_upper_bounds_accelerators_spot_and_networks_are_tried_too() -> None:
    rooms = Rooms.of([node("a", cpu=16, gpus=(A100,), spot=True), node("b", gpus=(A100,), network="x")])
    assert said(plan(role(needs=Needs(cpu=Range(8, 12)))), rooms)[0].startswith("on larger machines, too: it fits")
    assert said(plan(role(needs=needs(gpu=1, gpu_names=("H100",)))), rooms)[0].startswith(
        "without the accelerator H100"
    )
    assert said(plan(role(needs=Needs(gpu=GpuNeed(1, (), Range(60 * GB))))), rooms)[0].startswith("with any memory of")
    assert said(plan(role(needs=needs(cpu=8, spot="never"))), rooms)[0].startswith("without `spot: never`")
    pair = plan(role(count=2, needs=needs(gpu=1)), network="fast")
    changes = whatif(pair, [("main", 0), ("main", 1)], rooms)
    assert in_words(changes) == ["without `network: fast`: it fits now, for 0.00/h"]
