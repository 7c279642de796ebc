"""The life of one machine that a provider starts for us: pure steps, each taken as often as one likes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nexus.launch.core.policy import Policy
from nexus.launch.model import MACHINE_LIFE, Fleet, Machine, MachineState, Node, NodeState, Offer, Upkeep
from nexus.launch.ports import MachineSighting
from nexus.launch.protocol import MACHINE_LABEL

STARTING = frozenset({MachineState.WANTED, MachineState.STARTING})


# --------------------------------------------------------------------------- what a provider's answer means


def begun(machine: Machine, handle: Mapping[str, str]) -> Machine:
    """Its provider has taken it on. One that is ended meanwhile only keeps the handle, by which to end it."""
    moved = replace(machine, handle=dict(handle))
    return replace(moved, state=MachineState.STARTING) if machine.state is MachineState.WANTED else moved


def failed(machine: Machine, reason: str, now: float) -> Machine:
    """Its provider says that nothing was started."""
    if machine.state is MachineState.STOPPING:
        return ended(replace(machine, reason=machine.reason or reason), now)
    return _moved(machine, MachineState.FAILED, reason=reason, broken=True, ended=now)


def doubtful(machine: Machine, reason: str) -> Machine:
    """Nobody knows what was started: it is ended, to be sure."""
    if machine.state is MachineState.STOPPING:
        return machine
    return _moved(machine, MachineState.STOPPING, reason=reason, broken=True)


def ended(machine: Machine, now: float) -> Machine:
    """Its provider has ended it."""
    return _moved(machine, MachineState.FAILED if machine.broken else MachineState.GONE, ended=now)


# --------------------------------------------------------------------------- what becomes of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What is known of one machine."""

    node: Node | None = None  # the one that its agent joined as
    busy: bool = False  # a task holds something there
    fleet: Fleet | None = None
    seen: MachineSighting | None = None  # what its provider saw last
    starting_s: float = 0.0  # how long it has been starting


def follow(machine: Machine, sight: Sight, now: float, policy: Policy) -> tuple[Machine, Node | None]:
    """The machine's next step, and its node if that changes too."""
    if machine.state in STARTING:
        return _starting(machine, sight, now, policy), None
    if machine.state is MachineState.UP:
        return _up(machine, sight, now)
    if machine.state is MachineState.STOPPING:
        return machine, drained(sight.node)  # it may have joined after all
    return machine, None


def rest(machine: Machine, fleet: Fleet | None, now: float, *, needed: bool) -> Machine:
    """How long nothing needs it; when that is longer than its fleet wants, it goes."""
    if fleet is None or (machine.state not in STARTING and machine.state is not MachineState.UP):
        return machine
    if needed:
        return machine if machine.idle_since is None else replace(machine, idle_since=None)
    if machine.idle_since is None:
        return replace(machine, idle_since=now)
    if now - machine.idle_since < fleet.idle_s:
        return machine
    return _moved(machine, MachineState.STOPPING, reason=f"nothing needed it for {fleet.idle_s:.0f} s")


def drained(node: Node | None) -> Node | None:
    """The node with no more tasks to come; None if nothing changes.

    Applied together with its machine's change, this fails when a task came first.
    """
    if node is None or node.drain:
        return None
    present = node.state in {NodeState.ONLINE, NodeState.DRAINING}
    return replace(node, drain=True, state=NodeState.DRAINING if present else node.state)


def upkeep_of(machine: Machine, fleet: str) -> Upkeep | None:
    """What is kept of a machine that is over and about to be forgotten; None when it cost nothing."""
    if not machine.offer.price or not machine.handle or machine.ended is None:
        return None
    return Upkeep(
        id=machine.id,
        project=machine.project,
        created=machine.created,
        fleet=fleet,
        machine=machine.offer.machine,
        node=machine.node,
        price=machine.offer.price,
        ended=machine.ended,
    )


def is_node_of(node: Node, machine: Machine) -> bool:
    """Whether the machine's agent joined as this node."""
    labelled = node.labels.get(MACHINE_LABEL) == machine.id and node.project == machine.project
    return node.id == machine.node or labelled


def _starting(machine: Machine, sight: Sight, now: float, policy: Policy) -> Machine:
    limit_s, seen = max(policy.start_s, 4 * machine.offer.start_s), sight.seen
    if sight.node is not None:
        return _moved(machine, MachineState.UP, node=sight.node.id, started=now, reason="")
    if sight.fleet is None or sight.fleet.ending:
        return _moved(machine, MachineState.STOPPING, reason="its fleet was removed")
    if machine.state is MachineState.STARTING and seen is not None and not seen.alive:
        return failed(machine, seen.detail or "it ended before its agent joined", now)
    if sight.starting_s > limit_s:
        words = f"its agent has not joined within {limit_s:.0f} s"
        return doubtful(machine, f"{words}: {seen.detail}" if seen is not None and seen.detail else words)
    return machine


def _up(machine: Machine, sight: Sight, now: float) -> tuple[Machine, Node | None]:
    node, seen = sight.node, sight.seen
    if seen is not None and not seen.alive:
        why = seen.detail or "it ended by itself"
        gone = None if node is None else replace(node, over=why, drain=True, state=NodeState.GONE)
        return failed(machine, why, now), gone
    if node is None:
        return _moved(machine, MachineState.STOPPING, reason="its node was removed"), None
    if node.state is NodeState.GONE:
        return doubtful(machine, "its node fell silent"), drained(node)
    if sight.fleet is None or sight.fleet.ending:
        after = machine if sight.busy else _moved(machine, MachineState.STOPPING, reason="its fleet was removed")
        return after, drained(node)
    return machine, None


def _moved(machine: Machine, state: MachineState, **fields: Any) -> Machine:
    return replace(machine, state=MACHINE_LIFE.move(machine.state, state), idle_since=None, **fields)


# --------------------------------------------------------------------------- what its failures mean for others


def blocks(machines: Iterable[Machine], policy: Policy) -> dict[tuple[str, str], tuple[float, str]]:
    """Until when each (fleet, offer) whose last machines could not be started is left alone, and why.

    One that worked and then ended, whoever killed it, says nothing against the next.
    """
    past: defaultdict[tuple[str, str], list[Machine]] = defaultdict(list)
    for machine in machines:
        if machine.ended is not None:
            past[machine.fleet, machine.offer.id].append(machine)
    found = {}
    for key, those in past.items():
        those.sort(key=lambda one: (one.ended or 0.0, one.id), reverse=True)
        row = next((at for at, machine in enumerate(those) if not _is_bad_start(machine, policy)), len(those))
        if row:
            pause = min(policy.block_s * 2.0 ** min(row - 1, 30), policy.block_max_s)
            found[key] = ((those[0].ended or 0.0) + pause, those[0].reason)
    return found


def _is_bad_start(machine: Machine, policy: Policy) -> bool:
    """It failed before its agent joined, or so soon after that it can hardly have worked."""
    if not machine.broken or machine.started is None:
        return machine.broken
    return (machine.ended or 0.0) - machine.started < policy.settled_s


# --------------------------------------------------------------------------- what it will be


def offer_name(fleet: Fleet, offer: Offer) -> str:
    """`ssh:lab/gpu-07`, as reasons, pages and the command line say it."""
    return f"{fleet.provider}:{fleet.name}/{offer.machine}"


def node_of(offer: Offer, node_id: str, name: str, project: str) -> Node:
    """An offer as the node that it would be."""
    return Node(
        id=node_id,
        project=project,
        created=0.0,
        name=name,
        provider=offer.provider,
        capacity=offer.capacity,
        labels=offer.labels,
        region=offer.region,
        network=offer.network,
        price=offer.price,
        spot=offer.spot,
        reclaims_per_h=offer.reclaims_per_h or None,
        isolation=offer.isolation,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """A fleet as people see it."""

    fleet: Fleet
    machines: tuple[Machine, ...]  # those that are not over, oldest first
    offers: tuple[Offer, ...]  # what its provider offered when it was last asked; `unavailable` says what is wrong
    asked: float | None  # when that was
    trouble: str = ""  # why its provider does not answer
    blocked: dict[str, str] = field(default_factory=dict)  # offer -> why it is left alone for a while
    doing: dict[str, str] = field(default_factory=dict)  # machine -> what its provider said of it last
