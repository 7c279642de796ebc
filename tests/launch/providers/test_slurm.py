"""The Slurm provider against a real Slurm: one job for a machine, however often it is asked for, and nothing left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nexus.kernel.errors import MissingError, NoCapacityError, UnavailableError, UsageError
from nexus.launch.adapters.providers.slurm import Slurm
from nexus.launch.model import Fleet, Machine, Offer
from nexus.launch.ports import MachineSighting, Surroundings
from nexus.launch.protocol import Ticket
from tests.launch.providers import slurmd

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(bool(slurmd.missing()), reason=slurmd.missing())]

TICKET = Ticket(url="http://127.0.0.1:9", token="secret-join-token", name="lab-1")  # nobody listens there


@pytest.fixture(scope="module")
def cluster() -> Iterator[slurmd.Cluster]:
    with tempfile.TemporaryDirectory(prefix="nexus-slurm-") as folder, slurmd.cluster(Path(folder)) as found:
        yield found


@pytest.fixture
def provider(tmp_path: Path) -> Slurm:
    return Slurm(Surroundings(folder=str(tmp_path / "slurm"), url="http://127.0.0.1:9"))


@pytest.fixture
def fleet(cluster: slurmd.Cluster, provider: Slurm, tmp_path: Path) -> Fleet:
    (tmp_path / "scratch").mkdir()
    settings = provider.check({"conf": str(cluster.conf), "scratch": str(tmp_path / "scratch"), "price": {"gpu": 8}})
    return Fleet(id="fleet_1", project="default", created=0.0, name="lab", provider="slurm", settings=settings)


async def an_offer(provider: Slurm, fleet: Fleet, **wanted: Any) -> Offer:
    found = {offer.machine: offer for offer in await provider.offers(fleet)}
    return replace(found["gpu/4cpu-32G-2xh100"], **wanted)


async def a_machine(provider: Slurm, fleet: Fleet, name: str) -> Machine:
    offer = await an_offer(provider, fleet)
    return Machine(id=f"mach_{name}", project="default", created=0.0, fleet=fleet.id, offer=offer)


@contextlib.asynccontextmanager
async def started(provider: Slurm, fleet: Fleet, name: str) -> AsyncIterator[Machine]:
    machine = await a_machine(provider, fleet, name)
    try:
        handle = await provider.start(fleet, machine, TICKET)
        yield replace(machine, handle=handle)
    finally:
        await provider.stop(fleet, machine)


async def seen(provider: Slurm, fleet: Fleet, machine: Machine, *words: str) -> MachineSighting:
    """What is seen once it says one of `words`."""
    async with asyncio.timeout(20):
        while True:
            sighting = (await provider.look(fleet, [machine])).get(machine.id) or MachineSighting(alive=False)
            if any(word in sighting.detail for word in words):
                return sighting
            await asyncio.sleep(0.05)


async def until(ready: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while True:
            if ready():
                return
            await asyncio.sleep(0.05)


def processes(mark: str) -> list[int]:
    """Who names `mark` in its words."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and mark.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


async def test_a_machine_is_one_job_however_often_it_is_started(
    cluster: slurmd.Cluster, provider: Slurm, fleet: Fleet
) -> None:
    async with started(provider, fleet, "once") as machine:
        assert await provider.start(fleet, machine, TICKET) == machine.handle
        assert cluster.run("squeue", "--noheader", "--name=mach_once", "--format=%i").split() == [machine.handle["job"]]
        sighting = await seen(provider, fleet, machine, "is running")
        assert sighting.alive
        assert not sighting.queued
        whole = {offer.machine: offer for offer in await provider.offers(fleet)}["gpu/8cpu-64G-4xh100"]
        assert whole.count == 1, "the other node is free, this one is not"
        said = cluster.run("scontrol", "--oneliner", "show", "job", machine.handle["job"])
        assert "gres:gpu:h100:2" in said
        assert "MinMemoryNode=32G" in said
    assert (await provider.look(fleet, [machine])).get(machine.id, MachineSighting(alive=False)).alive is False


async def test_a_ticket_is_seen_by_its_job_only(
    cluster: slurmd.Cluster, provider: Slurm, fleet: Fleet, tmp_path: Path
) -> None:
    async with started(provider, fleet, "private") as machine:
        folder = tmp_path / "slurm" / machine.id
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        with contextlib.suppress(FileNotFoundError):  # the job has taken it by now
            assert stat.S_IMODE((folder / "ticket.json").stat().st_mode) == 0o600
        await seen(provider, fleet, machine, "is running")
        job = machine.handle["job"]
        assert TICKET.token not in cluster.run("scontrol", "--detail", "show", "job", job)
        for pid in processes(machine.id) + processes("nexus.agent"):
            with contextlib.suppress(OSError):
                assert TICKET.token.encode() not in (Path(f"/proc/{pid}") / "environ").read_bytes()


async def test_stop_needs_no_handle_and_leaves_nothing_behind(provider: Slurm, fleet: Fleet, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    async with started(provider, fleet, "stopped") as machine:
        await until(lambda: bool(processes(str(scratch))))
        await provider.stop(fleet, replace(machine, handle={}))
        await provider.stop(fleet, machine)  # again, when it is gone
        await until(lambda: not processes(str(scratch)) and not any(scratch.iterdir()))
        assert not (tmp_path / "slurm" / machine.id).exists()


async def test_a_job_that_is_killed_from_outside_is_seen_to_be_over(
    cluster: slurmd.Cluster, provider: Slurm, fleet: Fleet
) -> None:
    async with started(provider, fleet, "killed") as machine:
        await seen(provider, fleet, machine, "is running")
        cluster.run("scancel", machine.handle["job"])
        sighting = await seen(provider, fleet, machine, "cancelled")
        assert not sighting.alive


async def test_an_agent_that_cannot_start_says_why(provider: Slurm, fleet: Fleet, tmp_path: Path) -> None:
    broken = replace(fleet, settings={**fleet.settings, "python": str(tmp_path / "no-python")})
    async with started(provider, broken, "broken") as machine:
        sighting = await seen(provider, broken, machine, "failed")
        assert not sighting.alive
        assert "no-python" in sighting.detail


async def test_what_slurm_will_not_run_is_no_capacity_in_slurms_words(provider: Slurm, fleet: Fleet) -> None:
    picky = replace(fleet, settings={**fleet.settings, "constraint": "nosuchfeature"})
    machine = await a_machine(provider, fleet, "picky")
    with pytest.raises(NoCapacityError, match="Invalid feature specification"):
        await provider.start(picky, machine, TICKET)
    assert machine.id not in await provider.look(fleet, [machine])


@pytest.fixture
def dead(cluster: slurmd.Cluster, tmp_path: Path) -> Path:
    """The configuration of a cluster whose controller is not there."""
    lines = cluster.conf.read_text().splitlines()
    told = ["SlurmctldPort=9" if line.startswith("SlurmctldPort") else line for line in lines]
    (tmp_path / "slurm.conf").write_text("\n".join([*told, "MessageTimeout=1", ""]))
    return tmp_path / "slurm.conf"


async def test_nodes_that_cannot_reach_the_server_are_not_started_in_vain(
    provider: Slurm, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = await a_machine(provider, fleet, "apart")
    told = await provider._ask(fleet, "scontrol", "--detail", "--oneliner", "show", "nodes")

    async def elsewhere(_: Fleet, program: str, *words: str) -> str:
        return told.replace("NodeAddr=127.0.0.1", "NodeAddr=10.0.0.7").replace("NodeHostName=", "NodeHostName=far-")

    monkeypatch.setattr(provider, "_ask", elsewhere)
    with pytest.raises(UsageError, match="cannot reach this server") as refused:
        await provider.start(fleet, machine, TICKET)
    assert "public_url" in refused.value.hint


async def test_a_cluster_that_does_not_answer_is_unavailable(provider: Slurm, fleet: Fleet, dead: Path) -> None:
    away = replace(fleet, settings={**fleet.settings, "conf": str(dead)})
    with pytest.raises(UnavailableError, match="lab"):
        await provider.offers(away)


async def test_without_slurms_commands_the_error_says_what_is_missing(
    provider: Slurm, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(MissingError, match="scontrol is not on this machine"):
        await provider.offers(fleet)


def test_settings_are_checked_and_completed(provider: Slurm, tmp_path: Path) -> None:
    kept = provider.check({"partitions": "gpu,cpu", "time": "8h", "gpu_memory": {"a100": "80GiB"}, "price": "1.5"})
    assert kept == {
        "partitions": ["gpu", "cpu"],
        "time": 28_800.0,
        "gpu_memory": {"a100": 80 * 1024**3},
        "price": 1.5,
    }
    with pytest.raises(UsageError) as wrong:
        provider.check({"partition": "gpu"})
    assert wrong.value.hint == "Did you mean partitions?"
    for name, value in (("price", "cheap"), ("account", "-x"), ("labels", "a=b"), ("time", "soon"), ("qos", 3)):
        with pytest.raises(UsageError):
            provider.check({name: value})
    with pytest.raises(UsageError, match="there is no"):
        provider.check({"conf": str(tmp_path / "nowhere.conf")})
