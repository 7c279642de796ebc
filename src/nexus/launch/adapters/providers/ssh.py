"""Hosts over ssh as a fleet: no root, no Docker, no port opened. A host needs sshd and Python 3.11 or newer.

Nexus is brought to the host when it is first asked something, and an agent is started there as a daemon. The agent
dials out to the server; where the host cannot reach that, through a port that ssh forwards back (`ssh.tunnel`).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from nexus.kernel.errors import NexusError, NoCapacityError, UnavailableError
from nexus.launch.adapters.ssh.hosts import Host, HostList, read_hosts
from nexus.launch.adapters.ssh.link import Link, Trust
from nexus.launch.adapters.ssh.tunnel import Tunnel, is_hidden, port_of
from nexus.launch.model import Capacity, Fleet, Gpu, Machine, Offer
from nexus.launch.ports import MachineSighting, Surroundings
from nexus.launch.protocol import Ticket

_AT_ONCE = 16  # hosts that are asked at the same time
_ANSWER_S = 45.0  # one host's time to answer, Nexus being brought there included
_START_S = 2.0  # what a host takes until its agent speaks


class Ssh:
    """Implements `launch.ports.Provider`."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._folder = Path(surroundings.folder)
        self._server = surroundings.url
        self._links: dict[tuple[str, str], Link] = {}  # by fleet and host
        self._tunnels: dict[str, Tunnel] = {}  # by machine
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def check(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        checked: dict[str, Any] = msgspec.to_builtins(read_hosts(settings))
        return checked

    async def offers(self, fleet: Fleet) -> Sequence[Offer]:
        hosts = _hosts(fleet)
        self._hang_up(fleet, hosts)
        return await asyncio.gather(*(self._offer(fleet, host) for host in hosts.hosts))

    async def start(self, fleet: Fleet, machine: Machine, ticket: Ticket) -> dict[str, str]:
        host = _host_of(fleet, machine)
        if host is None:
            raise NoCapacityError(f"{machine.offer.machine} is no host of the fleet {fleet.name} any more")
        link = self._link(fleet, host)
        try:
            await link.connected()
        except UnavailableError as error:  # nothing was asked of it, so nothing was started: another host is tried
            raise NoCapacityError(error.message, hint=error.hint) from error
        ticket = replace(ticket, address=host.address)
        if is_hidden(ticket.url):
            tunnel = self._tunnel(fleet, machine, link)
            await tunnel.open(0)
            ticket = replace(ticket, url=tunnel.url, address=host.address or _outer_address(host))
        seen = await link.run("start", {**_place(fleet, host, machine.id), "ticket": msgspec.to_builtins(ticket)})
        if not seen["running"]:
            raise NoCapacityError(f"its agent ended at once: {seen['detail']}")
        await self._lead_back(fleet, machine, link, seen["url"])
        return {"host": host.name, "entry": msgspec.json.encode(host).decode()}

    async def look(self, fleet: Fleet, machines: Sequence[Machine]) -> Mapping[str, MachineSighting]:
        on_host: defaultdict[str, list[Machine]] = defaultdict(list)
        for machine in machines:
            on_host[machine.offer.machine].append(machine)
        found = await asyncio.gather(*(self._look_at(fleet, those) for those in on_host.values()))
        return {machine: sighting for one in found for machine, sighting in one.items()}

    async def stop(self, fleet: Fleet, machine: Machine) -> None:
        host = _host_of(fleet, machine)
        if host is not None:
            await self._link(fleet, host).run("stop", _place(fleet, host, machine.id))
        tunnel = self._tunnels.pop(machine.id, None)
        if tunnel is not None:
            await tunnel.close()

    async def close(self) -> None:
        for tunnel in self._tunnels.values():
            await tunnel.close()
        for link in self._links.values():
            link.close()

    # ------------------------------------------------------------------ one host

    async def _offer(self, fleet: Fleet, host: Host) -> Offer:
        """What a host is; what it has against being used is said in `unavailable`."""
        offer = Offer(
            id=f"ssh:{fleet.name}/{host.name}",
            provider="ssh",
            machine=host.name,
            fleet=fleet.id,
            capacity=Capacity(),
            region=host.region,
            network=host.network,
            labels=host.labels,
            price=host.price,
            start_s=_START_S,
            count=1,
        )
        try:
            async with self._turns, asyncio.timeout(_ANSWER_S):
                probed = await self._link(fleet, host).run("probe", _place(fleet, host, ""))
        except NexusError as error:
            why = f"{error.message} ({error.hint})" if error.hint else error.message
            return replace(offer, unavailable=why)
        except TimeoutError:
            return replace(offer, unavailable=f"{host.name} does not answer")
        info = probed["info"]
        gpus = tuple(Gpu(**gpu) for gpu in info["capacity"].pop("gpus"))
        return replace(
            offer,
            capacity=Capacity(**info["capacity"], gpus=gpus),
            labels={**info["labels"], **host.labels},
            isolation=tuple(info["isolation"]),
            count=0 if probed["machine"] else 1,
        )

    async def _look_at(self, fleet: Fleet, machines: Sequence[Machine]) -> dict[str, MachineSighting]:
        """Machines on one host: mostly one. What cannot be reached may well be alive; its lease decides."""
        host = _host_of(fleet, machines[0])
        if host is None:
            return {}
        link = self._link(fleet, host)
        try:
            async with self._turns, asyncio.timeout(_ANSWER_S):
                seen = await link.run("look", [_place(fleet, host, machine.id) for machine in machines])
                for machine, one in zip(machines, seen, strict=True):
                    if one["running"]:
                        await self._lead_back(fleet, machine, link, one["url"])
        except (NexusError, TimeoutError) as error:
            words = error.message if isinstance(error, NexusError) else f"{host.name} does not answer"
            return {machine.id: MachineSighting(alive=True, detail=words) for machine in machines}
        pairs = zip(machines, seen, strict=True)
        return {machine.id: MachineSighting(alive=one["running"], detail=one["detail"]) for machine, one in pairs}

    def _link(self, fleet: Fleet, host: Host) -> Link:
        key, trust = (fleet.id, host.name), self._trust(fleet)
        link = self._links.get(key)
        if link is None or (link.host, link.trust) != (host, trust):
            if link is not None:
                link.close()
            link = self._links[key] = Link(host, trust)
        return link

    def _trust(self, fleet: Fleet) -> Trust:
        hosts = _hosts(fleet)
        files = [Path("~/.ssh/known_hosts").expanduser()]
        if hosts.known_hosts:
            files.append(Path(hosts.known_hosts).expanduser())
        return Trust(tuple(files), self._folder / "known_hosts", hosts.trust_new_hosts)

    def _hang_up(self, fleet: Fleet, hosts: HostList) -> None:
        """Connections to hosts that are in the list no more, and that no machine needs."""
        for key, link in list(self._links.items()):
            needed = any(tunnel.link is link for tunnel in self._tunnels.values())
            if key[0] == fleet.id and hosts.find(key[1]) is None and not needed:
                link.close()
                del self._links[key]

    # ------------------------------------------------------------------ the way back

    def _tunnel(self, fleet: Fleet, machine: Machine, link: Link) -> Tunnel:
        async def moved(url: str) -> None:
            await link.run("move", {**_place(fleet, link.host, machine.id), "url": url})

        if machine.id not in self._tunnels:
            self._tunnels[machine.id] = Tunnel(link, self._server, moved)
        return self._tunnels[machine.id]

    async def _lead_back(self, fleet: Fleet, machine: Machine, link: Link, url: str) -> None:
        """An agent that was told to call the host's own loopback finds our server there."""
        if is_hidden(url):
            await self._tunnel(fleet, machine, link).open(port_of(url))


def _hosts(fleet: Fleet) -> HostList:
    return msgspec.convert(fleet.settings, HostList)


def _host_of(fleet: Fleet, machine: Machine) -> Host | None:
    """As it was when the machine was started, should it stand in the fleet's list no more."""
    host = _hosts(fleet).find(machine.offer.machine)
    entry = machine.handle.get("entry")
    return host if host is not None or not entry else msgspec.json.decode(entry, type=Host)


def _place(fleet: Fleet, host: Host, machine: str) -> dict[str, str]:
    """A `nexus.agent.host.Look`: each fleet has its own home on a host, whose caches stay from machine to machine."""
    return {"home": f"{host.folder}/{fleet.id}/{host.name}", "machine": machine}


def _outer_address(host: Host) -> str:
    """By which others find the tasks of a host that calls us through its own loopback."""
    return host.host if host.host[:1].isdigit() else ""
