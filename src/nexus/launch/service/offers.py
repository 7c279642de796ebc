"""What could be rented or started: offers of the project's fleets, and list prices; and a run compared over them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime

from nexus.kernel.clock import Clock
from nexus.kernel.errors import MissingError
from nexus.kernel.identity import Principal, Role
from nexus.launch.core.comparing import Comparison, OfferList, OfferQuery, compare, unfit
from nexus.launch.core.machines import FleetView
from nexus.launch.core.placement.need import need_key
from nexus.launch.model import GpuNeed, Offer, PriceNote, RolePlan, RunPlan, Submission
from nexus.launch.ports import Catalog
from nexus.launch.service.launch import Launch


class Offers:
    """The use cases of `nexus offers` and of `nexus launch --plan`."""

    def __init__(self, launch: Launch, catalog: Catalog, clock: Clock) -> None:
        self._launch = launch
        self._catalog = catalog
        self._clock = clock

    async def offers(self, principal: Principal, query: OfferQuery) -> OfferList:
        """Cheapest first; of equal price, what can be started before what is only known from a list."""
        principal.need(Role.VIEWER)
        need = need_key(RolePlan(name="machine", needs=query.needs))
        found = [
            offer
            for offer in await self._all(principal, query.needs.gpu)
            if not unfit(need, offer)
            and (not query.providers or offer.provider in query.providers)
            and (query.max_price is None or offer.price <= query.max_price)
        ]
        found.sort(key=lambda offer: (offer.price, bool(offer.unavailable), offer.start_s, offer.id))
        return OfferList(offers=tuple(found[: query.limit]), found=len(found), prices=await self.prices())

    async def compare(self, principal: Principal, submission: Submission) -> Comparison:
        """Where the run would go now, and where else it could, for how much."""
        placement = await self._launch.plan(principal, submission)
        fleets = {view.fleet.id: view.fleet.name for view in await self._fleets(principal)}
        offers: dict[str, Offer] = {}
        for need in _gpu_needs(submission.plan):
            offers |= {offer.id: offer for offer in await self._all(principal, need)}
        return await asyncio.to_thread(  # a fetched list has many thousands
            compare,
            submission.plan,
            placement,
            list(offers.values()),
            self._launch.policy,
            fleets=fleets,
            prices=await self.prices(),
        )

    async def prices(self) -> PriceNote:
        """What there is to say of the price list."""
        return self._aged(await self._catalog.about())

    async def refresh(self, principal: Principal) -> PriceNote:
        """Fetch today's list prices. Raises MissingError, UnavailableError; the prices that are there then stay."""
        principal.need_owner()
        return self._aged(await self._catalog.refresh())

    async def _all(self, principal: Principal, gpu: GpuNeed) -> Sequence[Offer]:
        started = [_as_it_stands(view, offer) for view in await self._fleets(principal) for offer in view.offers]
        return [*started, *await self._catalog.offers(gpu)]

    async def _fleets(self, principal: Principal) -> list[FleetView]:
        try:
            return await self._launch.fleets.fleets(principal)
        except MissingError:
            return []

    def _aged(self, note: PriceNote) -> PriceNote:
        today = datetime.fromtimestamp(self._clock.now(), UTC).date()
        return replace(note, age_days=max(0, (today - date.fromisoformat(note.made)).days))


def _as_it_stands(view: FleetView, offer: Offer) -> Offer:
    """What a provider offers, where we would not take it now."""
    why = f"the fleet {view.fleet.name} is paused" if view.fleet.paused else view.blocked.get(offer.id, "")
    return replace(offer, unavailable=offer.unavailable or why)


def _gpu_needs(plan: RunPlan) -> list[GpuNeed]:
    """What to ask the price list for: each role's accelerators, once."""
    found: list[GpuNeed] = []
    for role in plan.roles:
        if role.count and role.needs.gpu not in found:
            found.append(role.needs.gpu)
    return found
