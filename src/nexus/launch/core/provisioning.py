"""One look at all machines and at what is short: which to ask for, which to end, what to forget. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from nexus.kernel.events import Event
from nexus.launch.core.demand import Demand, Offered
from nexus.launch.core.events import machine_moved, node_moved
from nexus.launch.core.machines import Sight, drained, follow, is_node_of, rest
from nexus.launch.core.policy import Policy
from nexus.launch.core.scheduling import Change, Group, Unmet
from nexus.launch.model import (
    FLEETS,
    MACHINE_LIFE,
    MACHINES,
    NODES,
    Fleet,
    Machine,
    MachineState,
    Node,
    Task,
)
from nexus.launch.ports import MachineSighting
from nexus.launch.protocol import MACHINE_LABEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """What the decision looks at."""

    unmet: Sequence[Unmet]
    nodes: Sequence[Node]
    held: Sequence[Task]  # every live task
    fleets: Sequence[Fleet]
    machines: Sequence[Machine]  # those that are over too, while they are remembered
    offered: Mapping[str, Offered] = field(default_factory=dict)  # by fleet
    troubles: Mapping[str, str] = field(default_factory=dict)  # fleet -> why its provider does not answer
    sightings: Mapping[str, MachineSighting] = field(default_factory=dict)  # by machine: what its provider saw last
    starting_s: Mapping[str, float] = field(default_factory=dict)  # machine -> seconds that it has been starting


@dataclass(frozen=True, slots=True)
class Provision:
    """What to apply; `coming` says for each run which machines start for it, or what is in the way."""

    groups: tuple[Group, ...] = ()
    coming: Mapping[str, str] = field(default_factory=dict)
    over: tuple[Node, ...] = ()  # nodes whose machine is over and that hold nothing: to be removed
    machines: tuple[Machine, ...] = ()  # over for so long that they need not be remembered
    fleets: tuple[Fleet, ...] = ()  # removed, and without machines


def provision(supply: Supply, now: float, policy: Policy, ids: Callable[[], str]) -> Provision:
    """Everything that should change now. `ids` gives fresh ids for machines."""
    return _Look(supply, now, policy, ids).decide()


class _Look:
    def __init__(self, supply: Supply, now: float, policy: Policy, ids: Callable[[], str]) -> None:
        self.supply, self.now, self.policy, self.ids = supply, now, policy, ids
        self.fleets = {fleet.id: fleet for fleet in supply.fleets}
        self.busy = {task.node for task in supply.held}
        by_id = {node.id: node for node in supply.nodes}
        by_label = {node.labels[MACHINE_LABEL]: node for node in supply.nodes if MACHINE_LABEL in node.labels}
        self.nodes: dict[str, Node] = {}  # by machine
        for machine in supply.machines:
            node = by_id.get(machine.node) or by_label.get(machine.id)
            if node is not None and is_node_of(node, machine):
                self.nodes[machine.id] = node

    def decide(self) -> Provision:
        followed = {one.id: follow(one, self._sight(one), self.now, self.policy) for one in self.supply.machines}
        demand = Demand(
            self.supply.fleets,
            [machine for machine, _ in followed.values()],
            self.supply.offered,
            self.supply.troubles,
            self.supply.sightings,
            self.now,
            self.policy,
            self.ids,
        )
        changed = {node.id: node for _, node in followed.values() if node is not None}
        nodes = [changed.get(node.id, node) for node in self.supply.nodes]
        demand.meet(self.supply.unmet, nodes, self.supply.held)
        groups: list[Group] = []
        for before in self.supply.machines:
            machine, node = followed[before.id]
            needed = before.id in demand.needed or self._is_busy(before)
            rested = rest(machine, self.fleets.get(machine.fleet), self.now, needed=needed)
            if rested.state is MachineState.STOPPING and machine.state is not MachineState.STOPPING:
                node = drained(self.nodes.get(before.id))
            groups += self._group(before, rested, node)
        groups += self._starts(demand.new)
        return Provision(tuple(groups), demand.coming, tuple(self._over()), *self._forgotten())

    def _sight(self, machine: Machine) -> Sight:
        return Sight(
            node=self.nodes.get(machine.id),
            busy=self._is_busy(machine),
            fleet=self.fleets.get(machine.fleet),
            seen=self.supply.sightings.get(machine.id),
            starting_s=self.supply.starting_s.get(machine.id, 0.0),
        )

    def _is_busy(self, machine: Machine) -> bool:
        node = self.nodes.get(machine.id)
        return node is not None and node.id in self.busy

    def _group(self, before: Machine, machine: Machine, node: Node | None) -> list[Group]:
        """One machine's change, with its node's."""
        changes: list[Change] = [(MACHINES, machine)] if machine != before else []
        events: list[Event] = [machine_moved(machine, self.now)] if machine.state is not before.state else []
        if node is not None and node != self.nodes.get(before.id):
            changes.append((NODES, node))
            events.append(node_moved(node, self.now))
        return [Group(tuple(changes), tuple(events))] if changes else []

    def _starts(self, new: Sequence[Machine]) -> list[Group]:
        """All new machines at once. Their fleets are written with them: two loops cannot both fill one fleet."""
        if not new:
            return []
        changes: list[Change] = [(FLEETS, self.fleets[fleet]) for fleet in sorted({one.fleet for one in new})]
        changes += [(MACHINES, machine) for machine in new]
        return [Group(tuple(changes), tuple(machine_moved(machine, self.now) for machine in new))]

    def _over(self) -> list[Node]:
        return [
            self.nodes[machine.id]
            for machine in self.supply.machines
            if MACHINE_LIFE.is_final(machine.state) and machine.id in self.nodes and not self._is_busy(machine)
        ]

    def _forgotten(self) -> tuple[tuple[Machine, ...], tuple[Fleet, ...]]:
        live = {one.fleet for one in self.supply.machines if not MACHINE_LIFE.is_final(one.state)}
        leaving = {fleet.id for fleet in self.supply.fleets if fleet.ending and fleet.id not in live}
        machines = tuple(
            one
            for one in self.supply.machines
            if one.ended is not None
            and one.id not in self.nodes
            and (self.now - one.ended > self.policy.remember_s or one.fleet in leaving or one.fleet not in self.fleets)
        )
        return machines, tuple(self.fleets[fleet] for fleet in sorted(leaving))
