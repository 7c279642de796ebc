"""Rooms, told of every change, always answer what a scan over everything would."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nexus.kernel.units import Range
from nexus.launch.core.placement.rooms import Need, Rooms, need_key
from nexus.launch.core.policy import Policy
from nexus.launch.model import Capacity, Gpu, GpuNeed, Needs, Node, NodeState, RolePlan, Task
from tests.launch.build import GB, plan, role, task
from tests.launch.placement.oracle import ranked, scan

POLICY = Policy()
A100 = Gpu("NVIDIA A100-SXM4-40GB", 40 * GB)
H100 = Gpu("NVIDIA H100 80GB HBM3", 80 * GB)
RTX = Gpu("NVIDIA GeForce RTX 4090", 24 * GB)

GPUS = st.sampled_from([(), (A100,), (A100,) * 4, (H100,) * 2, (H100,) * 8, (RTX, RTX, A100), (RTX,) * 2])
WILD = st.fixed_dictionaries(
    {
        "capacity": st.builds(
            Capacity,
            cpu=st.sampled_from([0.5, 2.0, 3.0, 4.0, 7.5, 16.0]),
            memory_b=st.sampled_from([GB, 2 * GB, 2 * GB + 1, 8 * GB, 64 * GB]),
            disk_b=st.sampled_from([10 * GB, 100 * GB]),
            gpus=GPUS,
        ),
        "price": st.sampled_from([0.0, 0.0, 1.0, 1.0, 1.02, 2.5, 3.75]),
        "region": st.sampled_from(["", "eu-north-1", "eu-west-1", "us-east-1"]),
        "labels": st.sampled_from([{}, {}, {"site": "a"}, {"site": "b", "tier": "x"}]),
        "isolation": st.sampled_from([("process",), ("process", "container"), ("process", "sandbox")]),
        "spot": st.booleans(),
        "reclaims_per_h": st.sampled_from([None, None, 0.0, 0.3]),
        "network": st.sampled_from(["", "lan1", "lan2"]),
        "project": st.sampled_from(["p", "q"]),
        "state": st.sampled_from([NodeState.ONLINE] * 5 + [NodeState.DRAINING]),
    }
)
ALIKE = st.fixed_dictionaries(  # many nodes are: then ties decide, and tasks meet on one node
    {
        "capacity": st.sampled_from(
            [Capacity(16.0, 64 * GB, 100 * GB, (A100,) * 4), Capacity(24.0, 100 * GB, 100 * GB, (A100,) * 4)]
        ),
        "price": st.sampled_from([0.0, 1.0, 1.01]),
        "spot": st.sampled_from([False, False, True]),
        "region": st.sampled_from(["eu-north-1", "eu-west-1"]),
        "network": st.sampled_from(["lan1", "lan2", "lan3"]),
        "project": st.just("p"),
    }
)
NODE = st.one_of(ALIKE, ALIKE, WILD)
WILD_NEEDS = st.builds(
    Needs,
    cpu=st.sampled_from([Range(), Range(), Range(0.5), Range(1), Range(2, 4), Range(3)]),
    memory_b=st.sampled_from([Range(), Range(), Range(GB), Range(2 * GB, 8 * GB), Range(5 * GB)]),
    disk_b=st.sampled_from([Range(), Range(50 * GB), Range(None, 50 * GB)]),
    gpu=st.one_of(
        st.just(GpuNeed()),
        st.builds(
            GpuNeed,
            count=st.sampled_from([1, 2, 4]),
            names=st.sampled_from([(), ("a100",), ("H100", "RTX*")]),
            memory_b=st.sampled_from([Range(), Range(30 * GB), Range(None, 50 * GB)]),
        ),
    ),
    labels=st.sampled_from([{}, {}, {}, {"site": "a"}, {"tier": "x"}, {"nowhere": "1"}]),
    regions=st.sampled_from([(), (), ("eu-*",), ("us-east-1", "eu-west-?")]),
    spot=st.sampled_from(["auto", "auto", "only", "never"]),
)
LIGHT_NEEDS = st.builds(
    Needs,
    cpu=st.sampled_from([Range(), Range(1), Range(5)]),
    memory_b=st.sampled_from([Range(), Range(20 * GB)]),
    gpu=st.builds(GpuNeed, count=st.sampled_from([0, 0, 1, 1, 2, 3])),
)
NEEDS = st.one_of(LIGHT_NEEDS, LIGHT_NEEDS, WILD_NEEDS)
ROLE = st.builds(
    lambda needs, isolation: role(needs=needs, isolation=isolation),
    needs=NEEDS,
    isolation=st.sampled_from(["", "", "", "", "", "sandbox", "container"]),
)


def picture(rooms: Rooms) -> list[Any]:
    """Everything that a question could depend on."""
    found: list[Any] = [(node, rooms.room(node)) for node in sorted(rooms.nodes)]
    rooms._index.fresh()
    for shelf in rooms._index.shelves:
        stacks = sorted((key, [entry[:4] for entry in stack.entries]) for key, stack in shelf.stacks.items())
        found.append((shelf.place, stacks, sorted((rung, head[:5]) for rung, head in shelf.rungs.items())))
    return found


class Changes(RuleBasedStateMachine):
    """Any order of changes, and after each any question."""

    @initialize(first=st.lists(NODE, min_size=3, max_size=8))
    def begin(self, first: list[dict[str, Any]]) -> None:
        self.rooms = Rooms()
        self.nodes: dict[str, Node] = {}
        self.tasks: dict[str, Task] = {}
        self.count = 0
        self.blocked: dict[Need, int] = {}
        for at, fields in enumerate(first):
            self.put(at, fields)

    @rule(at=st.integers(0, 7), fields=NODE)
    def put(self, at: int, fields: dict[str, Any]) -> None:
        node = Node(id=f"node_{at}", created=0.0, name=f"n{at % 5}", version=1, **fields)
        self.nodes[node.id] = node
        self.rooms.put(node)

    @rule(at=st.integers(0, 7))
    def drop(self, at: int) -> None:
        self.nodes.pop(f"node_{at}", None)
        self.rooms.drop(f"node_{at}")

    @rule(of=ROLE, count=st.integers(1, 5), style=st.sampled_from(["", "", "pack", "spread"]), keep=st.booleans())
    def ask(self, of: RolePlan, count: int, style: str, keep: bool) -> None:
        """A question, whose answer a scan agrees with; then it may be held, task by task."""
        of_plan = plan(of, placement=style)
        wanted = [(of.name, index) for index in range(count)]
        expected = scan(of_plan, wanted, self.nodes.values(), self.tasks.values(), policy=POLICY, project="p")
        answer = self.rooms.place(of_plan, wanted, project="p")
        got = [(one.role, one.index, one.node, one.gpus, one.price) for one in answer.assignments]
        assert got == (expected or [])
        assert answer.fits or answer.reason
        if keep:
            for one in answer.assignments:
                self.count += 1
                held = task(
                    one.role,
                    one.index,
                    id=f"task_{self.count}",
                    node=one.node,
                    gpus=one.gpus,
                    cpu=of.needs.cpu.least,
                    memory_b=int(of.needs.memory_b.least),
                )
                self.tasks[held.id] = held
                self.rooms.hold(held)
                self.rooms.hold(held)

    @rule(of=ROLE, count=st.integers(2, 5), style=st.sampled_from(["", "", "pack", "spread"]))
    def ask_for_one_network(self, of: RolePlan, count: int, style: str) -> None:
        """The cheapest of all networks, each scanned by itself."""
        of_plan = plan(of, network="fast", placement=style)
        wanted = [(of.name, index) for index in range(count)]
        networks: dict[str, list[Node]] = {}
        for node in self.nodes.values():
            networks.setdefault(node.network or node.id, []).append(node)
        each = [
            sum(ranked(of, self.nodes[one[2]], POLICY) for one in found)
            for nodes in networks.values()
            if (found := scan(of_plan, wanted, nodes, self.tasks.values(), policy=POLICY)) is not None
        ]
        answer = self.rooms.place(of_plan, wanted)
        assert answer.fits == bool(each)
        if each:
            assert len({self.nodes[one.node].network or one.node for one in answer.assignments}) == 1
            price = sum(ranked(of, self.nodes[one.node], POLICY) for one in answer.assignments)
            assert price == pytest.approx(min(each))

    @rule(of=ROLE, data=st.data())
    def ask_under_a_cap(self, of: RolePlan, data: st.DataObject) -> None:
        most = data.draw(st.sampled_from([0.0, 0.3, 1.0, 2.0]))
        answer = self.rooms.place(plan(of, max_price=most), [(of.name, 0)])
        expected = scan(plan(of), [(of.name, 0)], self.nodes.values(), self.tasks.values(), policy=POLICY, most=most)
        assert [one.node for one in answer.assignments] == [one[2] for one in expected or []]

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def let_go(self, data: st.DataObject) -> None:
        task_id = data.draw(st.sampled_from(sorted(self.tasks)))
        self.rooms.let_go(self.tasks.pop(task_id))

    @rule(of=ROLE)
    def take_and_give_back(self, of: RolePlan) -> None:
        placement = self.rooms.place(plan(of), [(of.name, 0), (of.name, 1)])
        before = picture(self.rooms)
        self.rooms.give_back(self.rooms.take(plan(of), placement))
        assert picture(self.rooms) == before

    @precondition(lambda self: self.tasks)
    @rule(data=st.data(), of=ROLE)
    def as_if_ended(self, data: st.DataObject, of: RolePlan) -> None:
        gone = data.draw(st.sets(st.sampled_from(sorted(self.tasks))))
        self.rooms.place(plan(of), [(of.name, 0)])
        before, mark = picture(self.rooms), self.rooms.mark()
        rest = [one for one in self.tasks.values() if one.id not in gone]
        with self.rooms.as_if_ended([self.tasks[one] for one in gone]):
            answer = self.rooms.place(plan(of), [(of.name, 0)])
            expected = scan(plan(of), [(of.name, 0)], self.nodes.values(), rest, policy=POLICY)
            assert [one.node for one in answer.assignments] == [one[2] for one in expected or []]
        assert picture(self.rooms) == before
        self.rooms.watch(need_key(of))
        assert not self.rooms.served(mark)

    @rule(of=ROLE)
    def what_did_not_fit_fits_only_after_a_gain(self, of: RolePlan) -> None:
        key = need_key(of, "p")
        known = self.blocked
        fits = self.rooms.place(plan(of), [(of.name, 0)], project="p").fits
        if key in known:
            served = self.rooms.served(known[key])
            assert not fits or served.get(key), "it was blocked, fits now, and nothing was gained"
            assert fits or key not in served, "there is no room for it"
            assert all(self.rooms.fits(key, one) for one in served.get(key, ()))
        known.pop(key, None)
        self.rooms.unwatch(key)
        if not fits:
            known[key] = self.rooms.mark()
            self.rooms.watch(key)

    @invariant()
    def it_is_as_if_made_anew(self) -> None:
        fresh = Rooms.of(self.nodes.values(), self.tasks.values())
        for node in self.nodes:
            assert self.rooms.room(node) == fresh.room(node)


Changes.TestCase.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
TestChanges = Changes.TestCase
