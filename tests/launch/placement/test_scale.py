"""A question looks at a handful of rooms, however many there are: counted, so that no clock decides."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from nexus.kernel.units import Range
from nexus.launch.core.placement import index
from nexus.launch.core.placement.rooms import Rooms
from nexus.launch.model import Gpu, GpuNeed, Needs, Node, RunPlan
from tests.launch.build import GB, needs, node, plan, role

MODELS = [Gpu("A100", 40 * GB), Gpu("H100", 80 * GB), Gpu("L4", 24 * GB)]


def clouds(at: int, rng: random.Random) -> Node:
    return node(
        f"n{at:05}",
        cpu=rng.choice([32, 64]),
        memory_b=512 * GB,
        gpus=(rng.choice(MODELS),) * 8,
        price=1 + rng.random(),
        region=rng.choice(["eu-1", "eu-2", "us-1"]),
        spot=rng.random() < 0.4,
        network=f"pod{at // 16}",
        labels={"host": f"n{at:05}"},
    )


def own(at: int, rng: random.Random) -> Node:
    """Machines of all sizes for which nobody pays."""
    return node(f"n{at:05}", cpu=rng.randint(2, 64), memory_b=rng.randint(8, 256) * GB)


def gpu_job(rng: random.Random) -> RunPlan:
    gpu = GpuNeed(rng.choice([1, 2, 4, 8]), rng.choice([(), ("A100",), ("H100", "L4")]))
    wants = Needs(
        cpu=Range(gpu.count), gpu=gpu, regions=rng.choice([(), ("eu-*",)]), spot=rng.choice(["auto", "never"])
    )
    return plan(role(needs=wants))


def cpu_job(rng: random.Random) -> RunPlan:
    return plan(role(needs=needs(cpu=rng.randint(1, 4), memory_b=rng.randint(1, 16) * GB)))


def looks(
    count: int,
    make: Callable[[int, random.Random], Node],
    job: Callable[[random.Random], RunPlan],
    monkeypatch: pytest.MonkeyPatch,
) -> float:
    """How many rooms are looked at for one task, where six of ten nodes are in use."""
    rng = random.Random(1)
    rooms = Rooms.of(make(at, rng) for at in range(count))
    for _ in range(count):
        of = job(rng)
        rooms.take(of, rooms.place(of, [("main", 0)]))
    looked = 0
    real = index.fits

    def fits(*args: object) -> bool:
        nonlocal looked
        looked += 1
        return real(*args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(index, "fits", fits)
        for _ in range(100):
            of = job(rng)
            rooms.take(of, rooms.place(of, [("main", 0)]))
    return looked / 100


@pytest.mark.parametrize(("make", "job"), [(clouds, gpu_job), (own, cpu_job)], ids=["clouds", "own"])
def test_a_question_looks_at_as_few_rooms_among_many(
    make: Callable[[int, random.Random], Node],
    job: Callable[[random.Random], RunPlan],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few, many = looks(200, make, job, monkeypatch), looks(4000, make, job, monkeypatch)
    assert few > 0, "nothing was counted"
    assert many < 30, f"{many} rooms for one task"


def test_a_label_that_every_node_has_its_own_of_sets_no_shelves_apart_until_somebody_asks() -> None:
    rng = random.Random(1)
    rooms = Rooms.of(clouds(at, rng) for at in range(500))
    assert len(rooms._index.shelves) < 50
    asked = plan(role(needs=needs(labels={"host": "n00123"})))
    assert [one.node for one in rooms.place(asked, [("main", 0)]).assignments] == ["node_n00123"]
    assert rooms.place(plan(role(needs=needs(labels={"nowhere": "x"}))), [("main", 0)]).reason == "no node fits"
