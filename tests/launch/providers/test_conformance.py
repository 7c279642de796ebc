"""What every provider keeps to, over each that runs here without a cluster: local, and ssh against a real sshd."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nexus.kernel.errors import UsageError
from nexus.launch.adapters.providers import PROVIDERS
from nexus.launch.model import Fleet, Machine, Offer
from nexus.launch.ports import Provider, Surroundings
from nexus.launch.protocol import Ticket
from tests.launch.providers.sshd import SSHD, Sshd
from tests.ports import free_port

pytestmark = pytest.mark.anyio


class Bench:
    """A provider with a fleet, and a way to see what really runs."""

    def __init__(self, name: str, folder: Path, sshd: Sshd | None) -> None:
        # Nobody listens there: agents stay, and try to join.
        self.url = f"http://127.0.0.1:{free_port()}"
        self.folder = folder
        self.provider: Provider = PROVIDERS.get(name)(Surroundings(folder=str(folder / name), url=self.url))
        given = {"hosts": [sshd.entry("h1")], "trust_new_hosts": True} if sshd else {}
        settings = self.provider.check(given)
        self.fleet = Fleet(id="fleet_1", project="p", created=0.0, name="lab", provider=name, settings=settings)

    async def offer(self) -> Offer:
        (offer,) = await self.provider.offers(self.fleet)
        return offer

    def machine(self, offer: Offer, number: int = 1) -> Machine:
        return Machine(id=f"mach_{number}", project="p", created=0.0, fleet=self.fleet.id, offer=offer, version=1)

    def ticket(self, machine: Machine) -> Ticket:
        labels = {"machine": machine.id}
        return Ticket(url=self.url, token="nx_j_secret", name="lab-h1", provider="x", labels=labels)

    def agents(self) -> list[int]:
        """Processes of agents that work in this test's folder."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    words = (folder / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if any(word in {b"agent", b"nexus.agent"} for word in words) and str(self.folder).encode() in words[-2]:
                    found.append(int(folder.name))
        return [pid for pid in found if parent_of(pid) not in found]  # what an agent forks looks like it

    async def until_gone(self) -> None:
        for _ in range(500):
            if not self.agents():
                return
            await asyncio.sleep(0.02)
        raise AssertionError("an agent is still there")


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def said_by(pid: int) -> bytes:
    """What everybody on a machine can read of a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()


@pytest.fixture(params=["local", "ssh"])
def sshd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sshd | None]:
    if request.param == "local":
        yield None
        return
    if SSHD is None:
        pytest.skip("sshd is not installed (Debian: openssh-server)")
    host = Sshd(tmp_path / "h1")
    host.start()
    yield host
    host.die()


@pytest.fixture
async def bench(anyio_backend: str, sshd: Sshd | None, tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench("ssh" if sshd else "local", tmp_path, sshd)
    yield made
    for pid in made.agents():
        os.kill(pid, signal.SIGKILL)
    await made.provider.close()


async def test_a_machine_starts_once_is_seen_and_ends_for_good(bench: Bench) -> None:
    provider, fleet = bench.provider, bench.fleet
    offer = await bench.offer()
    assert offer.count == 1
    assert not offer.unavailable
    assert offer.capacity.cpu >= 1
    assert offer.capacity.memory_b > 10**8
    machine = bench.machine(offer)
    await provider.start(fleet, machine, bench.ticket(machine))
    (agent,) = bench.agents()
    handle = await provider.start(fleet, machine, bench.ticket(machine))
    assert bench.agents() == [agent]
    assert (await bench.offer()).count == 0  # it is in use
    started = replace(machine, handle=handle)
    assert (await provider.look(fleet, [started]))[machine.id].alive
    assert b"nx_j_secret" not in said_by(agent)
    await provider.stop(fleet, machine)  # without its handle: the server was killed before it could store it
    assert not bench.agents()
    seen = (await provider.look(fleet, [started])).get(machine.id)
    assert seen is None or not seen.alive
    await provider.stop(fleet, started)  # nothing is there, and that is fine
    assert (await bench.offer()).count == 1


async def test_an_agent_that_died_before_it_joined_is_seen_as_gone(bench: Bench) -> None:
    machine = bench.machine(await bench.offer())
    await bench.provider.start(bench.fleet, machine, bench.ticket(machine))
    (agent,) = bench.agents()
    os.kill(agent, signal.SIGKILL)
    await bench.until_gone()
    seen = (await bench.provider.look(bench.fleet, [machine])).get(machine.id)
    assert seen is None or not seen.alive


async def test_the_next_machine_takes_over_what_the_last_left_behind(bench: Bench) -> None:
    first = bench.machine(await bench.offer())
    await bench.provider.start(bench.fleet, first, bench.ticket(first))
    (agent,) = bench.agents()
    second = bench.machine(first.offer, 2)
    await bench.provider.start(bench.fleet, second, bench.ticket(second))
    (other,) = bench.agents()
    assert other != agent
    await bench.provider.stop(bench.fleet, first)  # late, and of no effect on the second
    assert bench.agents() == [other]


@pytest.mark.parametrize("name", list(PROVIDERS))
def test_unknown_settings_are_refused_by_name(name: str, tmp_path: Path) -> None:
    provider = PROVIDERS.get(name)(Surroundings(folder=str(tmp_path), url="http://127.0.0.1:1"))
    with pytest.raises(UsageError, match="nonsense"):
        provider.check({"nonsense": 1})
