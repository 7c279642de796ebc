"""Machines for what has no node: the cheapest that could be started, whole gangs or nothing.

A machine that was asked for counts as room from then on, so one need never starts two. An offer whose machine failed
is left alone for a while, so that the next look takes another one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from nexus.launch.core.machines import STARTING, blocks, node_of, offer_name
from nexus.launch.core.placement.rooms import Rooms
from nexus.launch.core.policy import Policy
from nexus.launch.core.renting import rented_price
from nexus.launch.core.scheduling import Unmet
from nexus.launch.model import MACHINE_LIFE, Fleet, Machine, Node, Offer, Placement, Task
from nexus.launch.ports import MachineSighting

_NAMED = 3  # machines and troubles that a run's reason names
_NEEDS = 500  # unmet needs that one look goes through; the scheduler lists the most urgent first

Choice = tuple[Fleet, Offer]


@dataclass(frozen=True, slots=True)
class Offered:
    """What a fleet's provider offered when it was last asked."""

    offers: tuple[Offer, ...]
    at: float


class Demand:
    """Goes through the unmet needs once; then `new` machines are wanted, and `coming` says what each run waits for."""

    def __init__(
        self,
        fleets: Iterable[Fleet],
        machines: Iterable[Machine],
        offered: Mapping[str, Offered],
        troubles: Mapping[str, str],
        sightings: Mapping[str, MachineSighting],
        now: float,
        policy: Policy,
        ids: Callable[[], str],
    ) -> None:
        self._fleets = {fleet.id: fleet for fleet in fleets}
        self._machines = list(machines)
        self._offered, self._unanswered, self._sightings = offered, troubles, sightings
        self._now, self._ids = now, ids
        self._blocked = blocks(self._machines, policy)
        self._names: dict[str, str] = {}  # of machines that are starting
        self.needed: set[str] = set()  # machines that some need waits for
        self.new: list[Machine] = []
        self.coming: dict[str, str] = {}  # run -> which machines start for it, or what is in the way

    def meet(self, unmet: Sequence[Unmet], nodes: Iterable[Node], held: Iterable[Task]) -> None:
        """Find machines for these needs, most urgent first."""
        rooms = Rooms.of(nodes, held)
        for machine in self._machines:
            if machine.state in STARTING:
                self._expect(rooms, machine)
        for need in unmet[:_NEEDS]:
            placement = self._place(rooms, need)
            if placement.fits:
                rooms.take(need.run.plan, placement)
                self._say(need, [one.node for one in placement.assignments if one.node in self._names])
            else:
                self._excuse(need)

    def _expect(self, rooms: Rooms, machine: Machine) -> None:
        """A machine that is starting, as the node that it will be, under the machine's own id."""
        fleet = self._fleets.get(machine.fleet)
        self._names[machine.id] = offer_name(fleet, machine.offer) if fleet is not None else machine.offer.machine
        rooms.put(node_of(machine.offer, machine.id, self._names[machine.id], machine.project))

    def _place(self, rooms: Rooms, need: Unmet) -> Placement:
        """On what there is and what is coming; else with what is offered beside that, which is then started."""
        run = need.run
        placement = _place_in(rooms, need)
        if placement.fits:
            return placement
        choices = self._startable(run.project, len(need.wanted))
        placement = _place_with(rooms, need, choices)
        beyond = self._beyond(placement, choices)
        if beyond:
            choices = {key: choice for key, choice in choices.items() if key not in beyond}
            placement = _place_with(rooms, need, choices)
        started = {key: self._want(need, *choices[key]) for key in _chosen(placement, choices)}
        for machine in started.values():
            self._expect(rooms, machine)
        placed = (
            replace(one, node=started[one.node].id, offer="") if one.node in started else one
            for one in placement.assignments
        )
        return replace(placement, assignments=tuple(placed))

    def _startable(self, project: str, at_most: int) -> dict[str, Choice]:
        """What could be started now, each machine for itself."""
        found: dict[str, Choice] = {}
        for fleet in self._fleets.values():
            if fleet.project != project or fleet.paused or fleet.ending or fleet.id not in self._offered:
                continue
            offered = self._offered[fleet.id]
            for offer in offered.offers:
                until, _ = self._blocked.get((fleet.id, offer.id), (0.0, ""))
                if not offer.unavailable and self._now >= until:
                    count = min(self._left(fleet), self._count(fleet, offer, offered.at), at_most)
                    found |= {f"{fleet.id}/{offer.id}#{number}": (fleet, offer) for number in range(count)}
        return found

    def _left(self, fleet: Fleet) -> int:
        """How many more machines the fleet may have."""
        there = sum(one.fleet == fleet.id and not MACHINE_LIFE.is_final(one.state) for one in self._machines)
        return _NEEDS if fleet.most is None else max(0, fleet.most - there)

    def _count(self, fleet: Fleet, offer: Offer, asked_at: float) -> int:
        """How many more the provider has: what was started since it was asked is not in its answer yet."""
        unseen = sum(
            one.fleet == fleet.id
            and one.offer.id == offer.id
            and not MACHINE_LIFE.is_final(one.state)
            and (one.started is None or one.started >= asked_at)
            for one in self._machines
        )
        return _NEEDS if offer.count is None else max(0, offer.count - unseen)

    def _beyond(self, placement: Placement, choices: Mapping[str, Choice]) -> set[str]:
        """What to leave out of `choices` so that no fleet gets more machines than it may have."""
        used: defaultdict[str, list[str]] = defaultdict(list)
        for key in _chosen(placement, choices):
            used[choices[key][0].id].append(key)
        beyond: set[str] = set()
        for fleet_id, keys in used.items():
            left = self._left(self._fleets[fleet_id])
            if len(keys) > left:
                beyond |= {key for key, (fleet, _) in choices.items() if fleet.id == fleet_id} - set(keys[:left])
        return beyond

    def _want(self, need: Unmet, fleet: Fleet, offer: Offer) -> Machine:
        machine = Machine(
            id=self._ids(), project=fleet.project, created=self._now, fleet=fleet.id, offer=offer, run=need.run.id
        )
        self.new.append(machine)
        self._machines.append(machine)
        return machine

    # ------------------------------------------------------------------ words

    def _say(self, need: Unmet, waits: Sequence[str]) -> None:
        """What starts for a run."""
        self.needed.update(waits)
        names = []
        for machine_id in dict.fromkeys(waits):
            seen = self._sightings.get(machine_id)
            detail = f" ({seen.detail})" if seen is not None and seen.detail else ""
            names.append(self._names[machine_id] + detail)
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            self.coming.setdefault(need.run.id, f"starting {', '.join(names[:_NAMED])}{more}")

    def _excuse(self, need: Unmet) -> None:
        """Why no machine starts for a run: what its fleets have trouble with."""
        mine = [fleet for fleet in self._fleets.values() if fleet.project == need.run.project and not fleet.ending]
        troubles = [trouble for fleet in sorted(mine, key=lambda one: one.name) for trouble in self._troubles(fleet)]
        if troubles:
            more = f"; and {len(troubles) - _NAMED} more" if len(troubles) > _NAMED else ""
            self.coming.setdefault(need.run.id, f"{need.reason}; {'; '.join(troubles[:_NAMED])}{more}")

    def _troubles(self, fleet: Fleet) -> list[str]:
        if fleet.paused:
            return [f"the fleet {fleet.name} is paused"]
        if fleet.id not in self._offered:
            return [f"the fleet {fleet.name}: {self._unanswered.get(fleet.id, 'has not answered yet')}"]
        found = [] if self._left(fleet) else [f"the fleet {fleet.name} has all its {fleet.most} machines"]
        for offer in self._offered[fleet.id].offers:
            until, failure = self._blocked.get((fleet.id, offer.id), (0.0, ""))
            why = offer.unavailable or (failure if self._now < until else "")
            found += [f"{offer_name(fleet, offer)}: {why}"] if why else []
        return found


def _place_with(rooms: Rooms, need: Unmet, choices: Mapping[str, Choice]) -> Placement:
    """A place among what there is and these; the rooms stay as they were."""
    if not choices:
        return Placement(reason=need.reason)
    for key, (fleet, offer) in choices.items():
        rented = replace(offer, price=rented_price(need.run.plan, need.wanted, offer))
        rooms.put(node_of(rented, key, offer_name(fleet, offer), need.run.project))
    placement = _place_in(rooms, need)
    for key in choices:
        rooms.drop(key)
    return placement


def _place_in(rooms: Rooms, need: Unmet) -> Placement:
    """Packed: a machine more costs more, however little of it a task holds."""
    plan = replace(need.run.plan, placement="pack")
    return rooms.place(plan, need.wanted, spent=need.spent, project=need.run.project)


def _chosen(placement: Placement, choices: Mapping[str, Choice]) -> list[str]:
    """What of `choices` a placement uses."""
    return list(dict.fromkeys(one.node for one in placement.assignments if one.node in choices))
