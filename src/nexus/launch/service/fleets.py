"""Fleets: people add, look at, pause and remove them; the provisioning loop does the rest."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nexus.kernel.errors import ConflictError, NotFoundError, UnavailableError, UsageError
from nexus.kernel.identity import Principal, Role
from nexus.kernel.ids import is_name
from nexus.launch.core.events import fleet_event
from nexus.launch.core.machines import FleetView, blocks
from nexus.launch.model import FLEETS, MACHINE_LIFE, MACHINES, Fleet
from nexus.launch.service.context import EVERYTHING, PROVISION, Context
from nexus.launch.service.provisioning import Provisioning


class Fleets:
    """Use cases around fleets."""

    def __init__(self, context: Context, provisioning: Provisioning) -> None:
        self._context = context
        self._provisioning = provisioning

    async def add(
        self,
        principal: Principal,
        name: str,
        provider: str,
        settings: Mapping[str, Any],
        *,
        idle_s: float | None = None,
        most: int | None = None,
    ) -> Fleet:
        """Set a fleet up, or give the one of this name other settings; its machines go on."""
        principal.need(Role.ADMIN)  # machines cost money, and a fleet's hosts run what jobs bring
        if not is_name(name):
            words = "lower-case letters, digits and . _ - in between, 63 at most"
            raise UsageError(f"{name!r} cannot name a fleet", hint=f"A name is {words}.")
        checked = self._provisioning.providers.get(provider).check(settings)

        async def step() -> Fleet:
            now = self._context.clock.now()
            known = await self._context.records.find(FLEETS, {"project": principal.project, "name": name})
            if known and (known[0].provider != provider or known[0].ending):
                state = "is being removed" if known[0].ending else f"is a fleet of {known[0].provider}"
                raise ConflictError(f"{name} {state}", hint="Choose another name.", final=True)
            if known:
                fleet = replace(known[0], settings=checked, idle_s=known[0].idle_s if idle_s is None else idle_s)
                fleet = replace(fleet, most=known[0].most if most is None else most)
            else:
                fleet = Fleet(
                    id=self._context.new_id("fleet"),
                    project=principal.project,
                    created=now,
                    name=name,
                    provider=provider,
                    settings=checked,
                    idle_s=300.0 if idle_s is None else idle_s,
                    most=most,
                )
            what = "changed" if known else "added"
            await self._context.commit((FLEETS, fleet), events=[fleet_event(fleet, what, now, principal.subject)])
            return replace(fleet, version=fleet.version + 1)

        fleet = await self._context.retry(step)
        self._provisioning.offered.pop(fleet.id, None)  # other settings, other offers
        self._context.hints.hint(PROVISION)
        return fleet

    async def fleets(self, principal: Principal) -> list[FleetView]:
        """All of the project, by name."""
        principal.need(Role.VIEWER)
        found = await self._context.records.find(FLEETS, {"project": principal.project}, limit=EVERYTHING)
        return [await self._view(fleet) for fleet in sorted(found, key=lambda fleet: fleet.name)]

    async def fleet(self, principal: Principal, reference: str, *, fresh: bool = False) -> FleetView:
        """One, by name or id; with `fresh` its provider is asked now, which may take a while."""
        principal.need(Role.MEMBER if fresh else Role.VIEWER)
        fleet = await self._find(principal, reference)
        if fresh:
            with contextlib.suppress(UnavailableError):  # the view says it
                await self._provisioning.ask(fleet)
        return await self._view(fleet)

    async def pause(self, principal: Principal, reference: str, *, paused: bool) -> Fleet:
        """Start no more machines, or (`paused=False`) again; those that there are go on."""
        return await self._change(principal, reference, "paused" if paused else "resumed", paused=paused)

    async def remove(self, principal: Principal, reference: str) -> Fleet:
        """End its machines, each as soon as its tasks have ended, then forget the fleet."""
        return await self._change(principal, reference, "removed", ending=True)

    async def _change(self, principal: Principal, reference: str, what: str, **fields: bool) -> Fleet:
        principal.need(Role.ADMIN)  # machines cost money, and a fleet's hosts run what jobs bring

        async def step() -> Fleet:
            before = await self._find(principal, reference)
            after = replace(before, **fields)  # type: ignore[arg-type]  # all of them are booleans
            if after != before:
                event = fleet_event(after, what, self._context.clock.now(), principal.subject)
                await self._context.commit((FLEETS, after), events=[event])
                after = replace(after, version=before.version + 1)
            return after

        fleet = await self._context.retry(step)
        self._context.hints.hint(PROVISION)
        return fleet

    async def _find(self, principal: Principal, reference: str) -> Fleet:
        for fleet in await self._context.records.find(FLEETS, {"project": principal.project}, limit=EVERYTHING):
            if reference in {fleet.id, fleet.name}:
                return fleet
        raise NotFoundError(f"no such fleet: {reference}", hint="`nexus fleet` lists them.")

    async def _view(self, fleet: Fleet) -> FleetView:
        machines = await self._context.records.find(MACHINES, {"fleet": fleet.id}, limit=EVERYTHING)
        offered = self._provisioning.offered.get(fleet.id)
        now = self._context.clock.now()
        blocked = blocks(machines, self._context.policy).items()
        return FleetView(
            fleet=fleet,
            machines=tuple(machine for machine in machines if not MACHINE_LIFE.is_final(machine.state)),
            offers=offered.offers if offered else (),
            asked=offered.at if offered else None,
            trouble=self._provisioning.troubles.get(fleet.id, ""),
            blocked={offer: why for (_, offer), (until, why) in blocked if until > now},
            doing=self._provisioning.doing(machines),
        )
