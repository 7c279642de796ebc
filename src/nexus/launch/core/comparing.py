"""Where else a run could go, and for how much: fleets that could start machines, and clouds by their list prices.

Whole machines are counted, for those are what is paid. Roles are priced on machines of their own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from nexus.kernel.units import format_bytes
from nexus.launch.core.placement.need import Need, fitting_gpus, gpu_fits, need_key, share_of
from nexus.launch.core.policy import Policy
from nexus.launch.model import Needs, Offer, Placement, PriceNote, RolePlan, RunPlan

_PLACES = 500  # that are only known from a price list; the cheapest are named


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferQuery:
    """Which offers to list. One machine is asked for; `max_price` is per hour for it."""

    needs: Needs = Needs()
    providers: tuple[str, ...] = ()
    max_price: float | None = None
    limit: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferList:
    """The cheapest offers; `found` is how many there are in all."""

    offers: tuple[Offer, ...]
    found: int
    prices: PriceNote


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineCount:
    """So many machines of one kind."""

    machine: str
    count: int
    offer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """One place where the whole run could go."""

    where: str  # slurm:lab, aws:eu-west-1
    machines: tuple[MachineCount, ...]
    gpus: dict[str, int]
    price: float  # per hour, for all machines
    spot: bool = False
    reclaims_per_h: float = 0.0  # how often one of the machines is expected to be taken away
    start_s: float = 0.0
    fleet: str = ""  # the id of the fleet that would start it; empty: it is only known from a price list
    unavailable: str = ""  # why this installation cannot start it now; empty: it can


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """How many offers do not fit, and why."""

    reason: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Where a run goes now, and what else there is: cheapest first, one for each place."""

    placement: Placement  # on the nodes that there are
    alternatives: tuple[Alternative, ...]
    refused: tuple[Refused, ...]
    offers: int  # how many were looked at
    prices: PriceNote | None = None

    @property
    def startable(self) -> Alternative | None:
        """The cheapest that could be started now."""
        return next((one for one in self.alternatives if not one.unavailable), None)


def compare(
    plan: RunPlan,
    placement: Placement,
    offers: Sequence[Offer],
    policy: Policy,
    *,
    fleets: Mapping[str, str],
    prices: PriceNote | None = None,
) -> Comparison:
    """The cheapest way for all of the run in each place; `fleets` are the names of offers' fleets by their ids."""
    refused: Counter[str] = Counter()
    places: defaultdict[tuple[str, bool], list[Offer]] = defaultdict(list)
    for offer in offers:
        places[_place(offer, fleets), offer.spot].append(offer)
    found = []
    for (where, _), here in places.items():
        best = _cheapest(plan, where, here, policy, refused)
        if best is not None:
            found.append(best)
    found.sort(key=lambda one: (one.price, bool(one.unavailable), one.start_s, one.where, one.spot))
    found = found[:_PLACES] + [one for one in found[_PLACES:] if not one.unavailable]
    counts = tuple(Refused(reason=reason, count=count) for reason, count in refused.most_common() if count)
    return Comparison(placement=placement, alternatives=tuple(found), refused=counts, offers=len(offers), prices=prices)


def _place(offer: Offer, fleets: Mapping[str, str]) -> str:
    if offer.fleet:
        return f"{offer.provider}:{fleets.get(offer.fleet, offer.fleet)}"
    return f"{offer.provider}:{offer.region}"


def _cheapest(
    plan: RunPlan, where: str, offers: Iterable[Offer], policy: Policy, refused: Counter[str]
) -> Alternative | None:
    """Every role on its cheapest machines here; None when one of them finds none. What does not fit is counted."""
    candidates = list(offers)
    roles = [(role, need_key(role)) for role in plan.roles if role.count]
    needs = [need for _, need in roles]
    wrong = [_why_not(needs, offer) for offer in candidates]
    refused.update(why for why in wrong if why)
    could = sum(not why for why in wrong)
    chosen: list[tuple[Offer, int]] = []
    for role, need in roles:
        fitting = [(offer, _fit(role, need, offer)) for offer in candidates if not unfit(need, offer)]
        machines = _machines_for(plan, role, fitting)
        if machines is None:
            refused["too few for all tasks at once"] += could
            return None
        chosen += machines
    price = sum(offer.price * count for offer, count in chosen)
    if plan.max_price is not None and price > plan.max_price + 1e-9:
        refused["over max_price"] += could
        return None
    return _alternative(where, chosen, price, policy) if chosen else None


def _machines_for(
    plan: RunPlan, role: RolePlan, fitting: Iterable[tuple[Offer, int]]
) -> list[tuple[Offer, int]] | None:
    """The cheaper of so many machines of one kind, and of several kinds, those that cost least for each task first."""
    fits = sorted(
        fitting,
        key=lambda pair: (pair[0].price / pair[1], pair[0].start_s, pair[0].capacity.cpu, pair[0].machine),
    )
    ways = [way for offer, fit in fits if (way := _fill(role.count, [(offer, fit)])) is not None]
    mixed = _fill(role.count, fits)
    ways += [mixed] if mixed is not None else []
    if plan.network == "fast":
        ways = [way for way in ways if sum(count for _, count in way) == 1 or all(offer.network for offer, _ in way)]
    return min(ways, key=_way_order, default=None)


def _way_order(way: Sequence[tuple[Offer, int]]) -> tuple[float, float, float]:
    return (
        sum(offer.price * count for offer, count in way),
        max(offer.start_s for offer, _ in way),
        sum(offer.capacity.cpu * count for offer, count in way),
    )


def _fill(tasks: int, fits: Sequence[tuple[Offer, int]]) -> list[tuple[Offer, int]] | None:
    """Machines in this order until all tasks have one; None when there are too few."""
    way = []
    for offer, fit in fits:
        wanted = -(-tasks // fit)
        count = wanted if offer.count is None else min(wanted, offer.count)
        if count:
            way.append((offer, count))
            tasks -= count * fit
        if tasks <= 0:
            return way
    return None


def _fit(role: RolePlan, need: Need, offer: Offer) -> int:
    """How many tasks of the role one such machine holds."""
    capacity = offer.capacity
    share = share_of(need, len(capacity.gpus), capacity.cpu, capacity.memory_b)
    return max(1, int(1.0 / share + 1e-9)) if share else role.count


def _alternative(where: str, chosen: Sequence[tuple[Offer, int]], price: float, policy: Policy) -> Alternative:
    gpus: Counter[str] = Counter()
    for offer, machines in chosen:
        for gpu in offer.capacity.gpus:
            gpus[gpu.name] += machines
    spot = any(offer.spot for offer, _ in chosen)
    often = max(offer.reclaims_per_h or (policy.spot_reclaims_per_h if offer.spot else 0.0) for offer, _ in chosen)
    return Alternative(
        where=where,
        machines=tuple(
            MachineCount(machine=offer.machine, count=machines, offer=offer.id) for offer, machines in chosen
        ),
        gpus=dict(gpus),
        price=price,
        spot=spot,
        reclaims_per_h=often,
        start_s=max(offer.start_s for offer, _ in chosen),
        fleet=chosen[0][0].fleet,
        unavailable=next((offer.unavailable for offer, _ in chosen if offer.unavailable), ""),
    )


def _why_not(needs: Sequence[Need], offer: Offer) -> str:
    """Why no role could use the offer; empty when one could."""
    reasons = [unfit(need, offer) for need in needs]
    return reasons[0] if reasons and all(reasons) else ""


def unfit(need: Need, offer: Offer) -> str:
    """Why a task of this need cannot be on such a machine, in words that many offers share; empty when it can."""
    capacity = offer.capacity
    if need.gpus and fitting_gpus(need, capacity.gpus).bit_count() < need.gpus:
        return _wrong_gpus(need, offer)
    if capacity.cpu < need.cpu or (need.cpu_most is not None and capacity.cpu > need.cpu_most):
        return f"fewer than {need.cpu:g} cpus" if capacity.cpu < need.cpu else f"more than {need.cpu_most:g} cpus"
    if capacity.memory_b < need.memory_b:
        return f"less memory than {format_bytes(need.memory_b)}"
    if need.memory_most_b is not None and capacity.memory_b > need.memory_most_b:
        return f"more memory than {format_bytes(need.memory_most_b)}"
    if capacity.disk_b < need.disk_b:
        return f"less disk than {format_bytes(need.disk_b)}"
    return _elsewhere(need, offer)


def _elsewhere(need: Need, offer: Offer) -> str:
    if need.regions and not any(fnmatchcase(offer.region, glob) for glob in need.regions):
        return "in other regions"
    if need.spot == "never" and offer.spot:
        return "may be taken away"
    if need.spot == "only" and not offer.spot:
        return "not spot"
    if any(offer.labels.get(name) != value for name, value in need.labels):
        return "without the labels asked for"
    if need.isolation and need.isolation not in offer.isolation:
        return f"cannot run in a {need.isolation}"
    return ""


def _wrong_gpus(need: Need, offer: Offer) -> str:
    named = [gpu for gpu in offer.capacity.gpus if gpu_fits(need.gpu_names, (None, None), gpu)]
    if not named:
        return "other accelerators, or none"
    if len(named) < need.gpus:
        return f"fewer than {need.gpus} accelerators"
    low, high = need.gpu_memory_b
    if low is not None and any(gpu.memory_b < low for gpu in named):
        return f"less accelerator memory than {format_bytes(low)}"
    return f"more accelerator memory than {format_bytes(high or 0)}"
