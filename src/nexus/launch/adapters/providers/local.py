"""This machine as a fleet of one. `nexus up` keeps an agent of its own here; this is for servers that do not.

It offers the machine while no agent of ours works on it. The agent is a daemon, started and found as on a host over
ssh, by the same program; so it outlives the server, as its tasks do.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nexus.kernel.errors import NoCapacityError, UnavailableError, UsageError, from_dict
from nexus.launch.model import Capacity, Fleet, Gpu, Machine, Offer
from nexus.launch.ports import MachineSighting, Surroundings
from nexus.launch.protocol import Ticket


class Local:
    """Implements `launch.ports.Provider`."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._folder = Path(surroundings.folder)

    def check(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        if settings:
            raise UsageError(f"a local fleet has no setting {min(settings)!r}", hint="It has none at all.")
        return {}

    async def offers(self, fleet: Fleet) -> Sequence[Offer]:
        probed = await self._do("probe", self._place(fleet, ""))
        info = probed["info"]
        gpus = tuple(Gpu(**gpu) for gpu in info["capacity"].pop("gpus"))
        return [
            Offer(
                id=f"local:{fleet.name}",
                provider="local",
                machine=info["name"],
                fleet=fleet.id,
                capacity=Capacity(**info["capacity"], gpus=gpus),
                labels=info["labels"],
                isolation=tuple(info["isolation"]),
                start_s=1.0,
                count=0 if probed["machine"] else 1,
            )
        ]

    async def start(self, fleet: Fleet, machine: Machine, ticket: Ticket) -> dict[str, str]:
        seen = await self._do("start", {**self._place(fleet, machine.id), "ticket": msgspec.to_builtins(ticket)})
        if not seen["running"]:
            raise NoCapacityError(f"its agent ended at once: {seen['detail']}")
        return {}

    async def look(self, fleet: Fleet, machines: Sequence[Machine]) -> Mapping[str, MachineSighting]:
        seen = await self._do("look", [self._place(fleet, machine.id) for machine in machines])
        pairs = zip(machines, seen, strict=True)
        return {machine.id: MachineSighting(alive=one["running"], detail=one["detail"]) for machine, one in pairs}

    async def stop(self, fleet: Fleet, machine: Machine) -> None:
        await self._do("stop", self._place(fleet, machine.id))

    async def close(self) -> None:
        """Nothing is held open."""

    def _place(self, fleet: Fleet, machine: str) -> dict[str, str]:
        return {"home": str(self._folder / fleet.id), "machine": machine}

    async def _do(self, verb: str, what: Any) -> Any:
        """One verb of `nexus.agent.host`, in a process of its own: it waits, and locks files."""
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "nexus.agent.host", verb),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await child.communicate(json.dumps(what).encode())
        if child.returncode:
            raise UnavailableError(f"this machine: {err.decode(errors='replace').strip()[-300:]}")
        answer = msgspec.json.decode(out)
        if isinstance(answer, dict) and "error" in answer:
            raise from_dict(answer, 500)
        return answer
