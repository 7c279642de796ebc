"""A provider on virtual time: slow, failing, losing machines. What it really runs is the truth that tests look at."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from nexus.kernel.errors import NexusError, NoCapacityError, UnavailableError
from nexus.launch.model import Capacity, Fleet, Machine, Offer
from nexus.launch.ports import MachineSighting, Provider
from nexus.launch.protocol import Ticket


def offer(machine: str, price: float = 0.0, **more: Any) -> Offer:
    fields: dict[str, Any] = {"count": 1, "capacity": Capacity(4.0, 8 * 10**9, 100 * 10**9)} | more
    return Offer(id=f"fake:{machine}", provider="fake", machine=machine, price=price, **fields)


@dataclass
class Cloud:
    """Hosts that exist whatever the server remembers."""

    dice: Random = field(default_factory=lambda: Random(1))
    hosts: list[Offer] = field(default_factory=list)
    running: dict[str, Ticket] = field(default_factory=dict)  # machine id -> what its agent was given
    on: dict[str, str] = field(default_factory=dict)  # machine id -> host
    begun: list[str] = field(default_factory=list)  # every real start
    slow_s: float = 0.0
    failure: float = 0.0  # how often a call is not answered, before or after it was carried out
    broken: dict[str, NexusError] = field(default_factory=dict)  # host -> what a start there says

    async def weather(self) -> None:
        if self.slow_s:
            await asyncio.sleep(self.dice.uniform(0.0, self.slow_s))
        if self.dice.random() < self.failure:
            raise UnavailableError("the provider did not answer")

    def lose(self, machine: str) -> None:
        """It is taken away."""
        self.running.pop(machine, None)
        self.on.pop(machine, None)


@dataclass
class FakeProvider:
    """Implements `launch.ports.Provider` over a cloud, and `Providers` as well."""

    cloud: Cloud

    def get(self, name: str) -> Provider:
        return self

    def check(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        return dict(settings)

    async def offers(self, fleet: Fleet) -> Sequence[Offer]:
        await self.cloud.weather()
        used = set(self.cloud.on.values())
        return [replace(one, count=0) if one.machine in used else one for one in self.cloud.hosts]

    async def start(self, fleet: Fleet, machine: Machine, ticket: Ticket) -> dict[str, str]:
        cloud, host = self.cloud, machine.offer.machine
        await cloud.weather()
        if host in cloud.broken:
            raise cloud.broken[host]
        if machine.id not in cloud.running:
            if host in cloud.on.values():
                raise NoCapacityError(f"{host} is taken")
            cloud.running[machine.id], cloud.on[machine.id] = ticket, host
            cloud.begun.append(machine.id)
        await cloud.weather()
        return {"host": host}

    async def look(self, fleet: Fleet, machines: Sequence[Machine]) -> Mapping[str, MachineSighting]:
        await self.cloud.weather()
        return {one.id: MachineSighting(alive=True) for one in machines if one.id in self.cloud.running}

    async def stop(self, fleet: Fleet, machine: Machine) -> None:
        await self.cloud.weather()
        self.cloud.lose(machine.id)
        await self.cloud.weather()

    async def close(self) -> None:
        return


class Tokens:
    """Implements `launch.ports.JoinTokens`."""

    def __init__(self) -> None:
        self.revoked: list[str] = []

    async def issue(self, machine: Machine) -> str:
        return f"join-{machine.id}"

    async def revoke(self, node: str) -> None:
        self.revoked.append(node)
