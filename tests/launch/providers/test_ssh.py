"""Hosts over real sshds: what is said of those that cannot be used, and what happens when connections or hosts die."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nexus.kernel.errors import UsageError
from nexus.launch.adapters.providers.ssh import Ssh
from nexus.launch.adapters.ssh.hosts import read_hosts
from nexus.launch.adapters.ssh.link import Link, Trust
from nexus.launch.adapters.ssh.parcel import parcel
from nexus.launch.adapters.ssh.tunnel import Tunnel
from nexus.launch.model import Fleet, Machine, Offer
from nexus.launch.ports import Surroundings
from nexus.launch.protocol import Ticket
from tests.launch.providers.sshd import Sshd, make_key, needs_sshd
from tests.ports import free_port

pytestmark = [pytest.mark.anyio, needs_sshd]


@pytest.fixture
def new_host(tmp_path: Path) -> Iterator[Callable[..., Sshd]]:
    """Makes a host that listens; every one dies at the end."""
    made: list[Sshd] = []

    def new(name: str, **more: Any) -> Sshd:
        host = Sshd(tmp_path / name, **more)
        made.append(host)
        host.start()
        return host

    yield new
    for host in made:
        host.die()


@pytest.fixture
async def provider(anyio_backend: str, tmp_path: Path) -> AsyncIterator[Ssh]:
    made = Ssh(Surroundings(folder=str(tmp_path / "ssh"), url=f"http://127.0.0.1:{free_port()}"))
    yield made
    await made.close()


def fleet_of(provider: Ssh, *hosts: dict[str, object], **settings: Any) -> Fleet:
    checked = provider.check({"hosts": list(hosts), **settings})
    return Fleet(id="fleet_1", project="p", created=0.0, name="lab", provider="ssh", settings=checked)


async def offer_of(provider: Ssh, fleet: Fleet) -> Offer:
    (offer,) = await provider.offers(fleet)
    return offer


async def test_an_unknown_host_is_refused_until_its_key_is_known_or_may_be_learned(
    provider: Ssh, new_host: Callable[..., Sshd], tmp_path: Path
) -> None:
    host = new_host("h1")
    assert "host key of h1" in (await offer_of(provider, fleet_of(provider, host.entry("h1")))).unavailable
    known = tmp_path / "known"
    known.write_text(host.known_hosts)
    assert not (await offer_of(provider, fleet_of(provider, host.entry("h1"), known_hosts=str(known)))).unavailable
    trusting = fleet_of(provider, host.entry("h1"), trust_new_hosts=True)
    assert not (await offer_of(provider, trusting)).unavailable
    pins = (tmp_path / "ssh" / "known_hosts").read_text()
    assert pins.split()[:3] == host.known_hosts.split()[:3]
    host.stop()
    make_key(host.place / "other_key")  # somebody else answers there
    shutil.move(host.place / "other_key", host.place / "host_key")
    host.start()
    assert "host key of h1" in (await offer_of(provider, trusting)).unavailable
    assert (tmp_path / "ssh" / "known_hosts").read_text() == pins


async def test_each_trouble_of_a_host_is_said_in_its_offer(
    provider: Ssh, new_host: Callable[..., Sshd], tmp_path: Path
) -> None:
    host = new_host("h1")
    stranger = make_key(tmp_path / "stranger")
    hosts = [
        host.entry("closed", port=free_port()),
        host.entry("wrong-key", key=str(stranger)),
        host.entry("no-key", key=str(tmp_path / "nothing")),
        host.entry("no-room", folder="/proc/nexus"),
        host.entry("good"),
    ]
    offers = {one.machine: one for one in await provider.offers(fleet_of(provider, *hosts, trust_new_hosts=True))}
    assert "closed (127.0.0.1) cannot be reached: connection refused" in offers["closed"].unavailable
    assert "refuses the login" in offers["wrong-key"].unavailable
    assert "nothing" in offers["no-key"].unavailable
    assert "cannot be brought to no-room" in offers["no-room"].unavailable
    assert not offers["good"].unavailable


@pytest.mark.skipif(Path("/usr/local/bin/python3").exists(), reason="a host here cannot be without /usr/local/bin")
async def test_a_host_without_python_says_what_it_needs(
    provider: Ssh, new_host: Callable[..., Sshd], tmp_path: Path
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "dd", "gzip", "tar", "mkdir", "rm", "mv", "cat"):
        (tools / name).symlink_to(str(shutil.which(name)))
    bare = f'ForceCommand env -i PATH={tools} HOME={tmp_path} sh -c "$SSH_ORIGINAL_COMMAND"'
    host = new_host("h1", options=(bare,))
    offer = await offer_of(provider, fleet_of(provider, host.entry("h1"), trust_new_hosts=True))
    assert "h1 has no Python 3.11 or newer" in offer.unavailable
    assert "Install Python 3.11 or uv" in offer.unavailable


async def test_nexus_is_brought_once_and_a_broken_connection_is_made_again_on_the_same_port(
    provider: Ssh, new_host: Callable[..., Sshd]
) -> None:
    host = new_host("h1")
    fleet = fleet_of(provider, host.entry("h1"), trust_new_hosts=True)
    offer = await offer_of(provider, fleet)
    (place,) = (host.folder / "parcels").iterdir()
    assert place.name == parcel().digest
    stamp = (place / "python").stat().st_mtime_ns
    machine = Machine(id="mach_1", project="p", created=0.0, fleet=fleet.id, offer=offer)
    ticket = Ticket(url="http://127.0.0.1:1", token="t", name="h1", labels={"machine": machine.id})
    await provider.start(fleet, machine, ticket)
    assert (place / "python").stat().st_mtime_ns == stamp
    tunnel = provider._tunnels[machine.id]
    port = tunnel.port
    host.hang_up()
    assert (await provider.look(fleet, [machine]))[machine.id].alive  # which connects again
    await tunnel.open(port)
    assert tunnel.port == port
    await provider.stop(fleet, machine)
    (await taken(port)).close()  # sshd has let go of it


async def taken(port: int) -> socket.socket:
    """A listener on this port, as soon as the last one's processes are gone."""
    for _ in range(250):
        try:
            return socket.create_server(("127.0.0.1", port))
        except OSError:
            await asyncio.sleep(0.02)
    raise AssertionError(f"{port} does not become free")


async def test_a_tunnel_leads_to_the_server_and_moves_when_its_port_is_taken(
    new_host: Callable[..., Sshd], tmp_path: Path
) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"the server")
        writer.close()

    async def ask(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        said = await reader.read()
        writer.close()
        await writer.wait_closed()
        return said

    urls: asyncio.Queue[str] = asyncio.Queue()
    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    host = new_host("h1")
    listed = read_hosts({"hosts": [host.entry("h1")]})
    link = Link(listed.hosts[0], Trust((), tmp_path / "pins", new=True))
    tunnel = Tunnel(link, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", urls.put, pause_s=0.01)
    try:
        await tunnel.open(0)
        port = tunnel.port
        assert await ask(port) == b"the server"
        host.stop()
        with await taken(port):  # somebody else is faster
            host.start()
            moved = await asyncio.wait_for(urls.get(), 30)
        assert moved == tunnel.url
        assert tunnel.port != port
        assert await ask(tunnel.port) == b"the server"
    finally:
        await tunnel.close()
        link.close()
        server.close()


def test_settings_are_checked_and_shared_ones_reach_every_host() -> None:
    listed = read_hosts(
        {
            "user": "ml",
            "labels": {"site": "lab"},
            "hosts": ["gpu-1.lab", {"host": "root@10.0.0.7", "labels": {"gpu": "yes"}}],
        }
    )
    first, second = listed.hosts
    assert (first.name, first.host, first.user) == ("gpu-1.lab", "gpu-1.lab", "ml")
    assert (second.name, second.user, second.labels) == ("10.0.0.7", "root", {"site": "lab", "gpu": "yes"})


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "needs hosts"),
        ({"hosts": "gpu-1"}, "needs hosts"),
        ({"hosts": [{"hots": "x"}]}, "has no 'hots'"),
        ({"hosts": [{"user": "x"}]}, "does not say where it is"),
        ({"hosts": ["a", "a"]}, "two hosts are called a"),
        ({"hosts": [{"host": "a", "port": "many"}]}, "host 1"),
        ({"hosts": [{"host": "a", "key": "-----BEGIN OPENSSH PRIVATE KEY-----"}]}, "`key` names a file"),
        ({"hosts": [3]}, "neither a name nor a mapping"),
    ],
)
def test_wrong_settings_say_which_and_why(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        read_hosts(settings)
    assert "BEGIN" not in json.dumps(caught.value.as_dict())
