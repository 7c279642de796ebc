"""Slurm's words as offers: states, sizes, shares, what is free. The lines are those of a real scontrol."""

from __future__ import annotations

from typing import Any

import pytest

from nexus.launch.adapters.slurm.nodes import gres_of, offers_of, read_nodes, read_partitions
from nexus.launch.model import Fleet, Gpu

NODE = (
    "NodeName={name} Arch=x86_64 CoresPerSocket=1 CPUAlloc={cpus} CPUEfctv=8 CPUTot=8 CPULoad=0.65 "
    "AvailableFeatures=(null) Gres={gres} GresDrain=N/A GresUsed={used} NodeAddr=127.0.0.1 Port=27268 Version=22.05.8 "
    "OS=Linux 6.1.0 #1 SMP PREEMPT_DYNAMIC State=3 @0 RealMemory=65536 AllocMem={memory} FreeMem=21714 State={state} "
    "ThreadsPerCore=1 Partitions={partitions} CfgTRES=cpu=8,mem=64G,billing=8 AllocTRES= Reason=what it = is"
)


def node(name: str = "n1", **said: Any) -> str:
    words = {"cpus": 0, "gres": "gpu:h100:4", "used": "gpu:h100:0(IDX:N/A)", "memory": 0, "state": "IDLE"}
    return NODE.format(name=name, **{**words, "partitions": "gpu", **said})


def offers(*lines: str, exclusive: bool = False, **settings: Any) -> dict[str, Any]:
    fleet = Fleet(id="fleet_1", project="default", created=0.0, name="lab", provider="slurm")
    up = {"gpu": exclusive, "cpu": False}
    return {offer.machine: offer for offer in offers_of(fleet, up, read_nodes("\n".join(lines)), settings)}


def test_a_node_is_offered_whole_and_in_shares_as_long_as_everything_can_be_halved() -> None:
    found = offers(node(), price=8.0)
    assert list(found) == ["gpu/2cpu-16G-1xh100", "gpu/4cpu-32G-2xh100", "gpu/8cpu-64G-4xh100"]
    whole, quarter = found["gpu/8cpu-64G-4xh100"], found["gpu/2cpu-16G-1xh100"]
    assert (whole.price, whole.count, whole.capacity.cpu, len(whole.capacity.gpus)) == (8.0, 1, 8.0, 4)
    assert (quarter.price, quarter.count, quarter.capacity.memory_b) == (2.0, 4, 16 * 1024**3)
    assert quarter.capacity.gpus == (Gpu("h100", 80 * 1024**3),)
    assert quarter.id == "slurm:lab:gpu/2cpu-16G-1xh100"


def test_what_jobs_hold_is_not_offered_as_free() -> None:
    found = offers(node(cpus=4, memory=32768, used="gpu:h100:2(IDX:0-1)", state="MIXED"), node("n2"))
    assert found["gpu/8cpu-64G-4xh100"].count == 1
    assert found["gpu/4cpu-32G-2xh100"].count == 3


def test_a_full_partition_is_offered_behind_the_queue() -> None:
    full = offers(node(cpus=8, memory=65536, used="gpu:h100:4(IDX:0-3)", state="ALLOCATED"))["gpu/8cpu-64G-4xh100"]
    assert full.count is None
    assert full.start_s > 60
    assert offers(node())["gpu/8cpu-64G-4xh100"].start_s < 10


@pytest.mark.parametrize("state", ["DOWN", "IDLE+DRAIN", "DOWN*", "IDLE*", "MIXED+MAINT", "IDLE+NOT_RESPONDING", ""])
def test_nodes_that_take_no_jobs_are_not_offered(state: str) -> None:
    assert offers(node(state=state)) == {}
    assert offers(node(state=state), node("n2"))


def test_a_partition_that_gives_whole_nodes_offers_no_shares() -> None:
    assert list(offers(node(), exclusive=True)) == ["gpu/8cpu-64G-4xh100"]


def test_gpus_without_a_type_and_without_a_known_size() -> None:
    found = offers(node(gres="gpu:2(S:0-1)", used="gpu:1(IDX:0)"), gpu_memory={"gpu": 24 * 1024**3})
    half = found["gpu/4cpu-32G-1xgpu"]
    assert half.count == 1
    assert half.capacity.gpus == (Gpu("gpu", 24 * 1024**3),)
    assert gres_of(half.capacity.gpus) == "gpu:1"
    assert offers(node(gres="gpu:a100:1"))["gpu/8cpu-64G-1xa100"].capacity.gpus == (Gpu("a100", 0),)  # 40 or 80 GB
    assert gres_of([Gpu("a100"), Gpu("a100"), Gpu("t4")]) == "gpu:a100:2,gpu:t4:1"


def test_settings_choose_partitions_prices_and_what_may_be_preempted() -> None:
    lines = (node(partitions="gpu,cpu"),)
    found = offers(*lines, partitions=["gpu"], price={"gpu": 4.0}, spot=["gpu"], region="eu-lab", labels={"site": "a"})
    assert {name.split("/")[0] for name in found} == {"gpu"}
    whole = found["gpu/8cpu-64G-4xh100"]
    assert (whole.price, whole.spot, whole.region) == (4.0, True, "eu-lab")
    assert whole.labels == {"site": "a", "partition": "gpu"}
    assert {name.split("/")[0] for name in offers(*lines)} == {"gpu", "cpu"}


def test_partitions_that_are_down_are_not_offered() -> None:
    text = (
        "PartitionName=cpu AllowGroups=ALL OverSubscribe=NO State=UP TotalCPUs=8\n"
        "PartitionName=whole OverSubscribe=EXCLUSIVE State=UP\n"
        "PartitionName=old OverSubscribe=NO State=DOWN\n"
    )
    assert read_partitions(text) == {"cpu": False, "whole": True}
