"""Which machines are asked for and which are ended: the decision alone."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nexus.launch.core.demand import Offered
from nexus.launch.core.policy import Policy
from nexus.launch.core.provisioning import Provision, Supply, provision
from nexus.launch.core.scheduling import Unmet
from nexus.launch.model import FLEETS, MACHINES, NODES, Fleet, Machine, MachineState, Node, NodeState, Offer
from nexus.launch.ports import MachineSighting
from tests.launch.build import needs, node, plan, replace, role, run, task
from tests.launch.providers.fake import offer

POLICY = Policy()
FLEET = Fleet(id="fleet_1", project="p", created=0.0, name="lab", provider="fake", version=1)


def machine(number: int = 1, state: MachineState = MachineState.STARTING, **more: Any) -> Machine:
    fields: dict[str, Any] = {"fleet": FLEET.id, "offer": offer("h1"), "created": 0.0, "version": 1} | more
    return Machine(id=f"mach_{number}", project="p", state=state, **fields)


def unmet(count: int = 1, *, gang: bool = False, run_id: str = "run_x", cpu: float = 1.0, **of_plan: Any) -> Unmet:
    one = role(count=count, gang=gang, needs=needs(cpu=cpu))
    wanted = replace(run(one, id=run_id), plan=plan(one, **of_plan))
    return Unmet(wanted, tuple(("main", index) for index in range(count)), 0.0, "no node fits")


def decide(
    *, offers: list[Offer] | None = None, fleet: Fleet | None = FLEET, now: float = 100.0, **more: Any
) -> Provision:
    numbers = itertools.count(1)
    fields: dict[str, Any] = {"unmet": (), "nodes": (), "held": (), "machines": ()} | more
    offered = {FLEET.id: Offered(tuple(offers or ()), 90.0)} if offers is not None else {}
    supply = Supply(fleets=[fleet] if fleet else [], offered=offered, **fields)
    return provision(supply, now, POLICY, lambda: f"mach_new{next(numbers)}")


def machines(decided: Provision) -> list[Machine]:
    return [record for group in decided.groups for kind, record in group.changes if kind is MACHINES]  # type: ignore[misc]


def nodes(decided: Provision) -> list[Node]:
    return [record for group in decided.groups for kind, record in group.changes if kind is NODES]  # type: ignore[misc]


def hosts(decided: Provision) -> list[str]:
    return [one.offer.machine for one in machines(decided) if one.state is MachineState.WANTED]


def joined(one: Machine, **more: Any) -> Node:
    return node(one.id, labels={"machine": one.id}, **more)


def test_the_cheapest_offer_that_fits_is_started_and_the_run_hears_of_it() -> None:
    decided = decide(offers=[offer("dear", 2.0), offer("cheap", 1.0), offer("gone", 0.1, count=0)], unmet=[unmet()])
    assert hosts(decided) == ["cheap"]
    assert decided.coming == {"run_x": "starting fake:lab/cheap"}
    (group,) = decided.groups
    assert (FLEETS, FLEET) in group.changes  # two loops that decide this at once do not both succeed


def test_what_is_coming_counts_so_one_need_starts_one_machine() -> None:
    for state in (MachineState.WANTED, MachineState.STARTING):
        decided = decide(offers=[offer("h1"), offer("h2")], unmet=[unmet()], machines=[machine(state=state)])
        assert hosts(decided) == []
        assert decided.coming == {"run_x": "starting fake:lab/h1"}


def test_small_tasks_share_a_machine_that_is_coming() -> None:
    needed = [unmet(run_id=f"run_{number}") for number in range(5)]
    assert len(hosts(decide(offers=[offer("h1"), offer("h2"), offer("h3")], unmet=needed))) == 2  # 4 cpu each


def test_a_gang_gets_all_its_machines_or_none() -> None:
    offers = [offer("h1"), offer("h2")]
    assert hosts(decide(offers=offers, unmet=[unmet(3, gang=True, cpu=4)])) == []
    assert hosts(decide(offers=[*offers, offer("h3")], unmet=[unmet(3, gang=True, cpu=4)])) == ["h1", "h2", "h3"]


def test_a_gang_on_one_network_is_not_spread_over_two() -> None:
    offers = [offer("a1", network="a"), offer("b1", 1.0, network="b"), offer("b2", 1.0, network="b")]
    assert hosts(decide(offers=offers, unmet=[unmet(2, gang=True, cpu=4, network="fast")])) == ["b1", "b2"]


def test_max_price_holds_for_what_would_be_started() -> None:
    decided = decide(offers=[offer("h1", 3.0)], unmet=[unmet(cpu=4, max_price=2.0)])
    assert hosts(decided) == []


def test_an_offer_whose_machine_failed_is_left_alone_and_the_next_is_taken() -> None:
    bad = machine(state=MachineState.FAILED, broken=True, ended=95.0, reason="it burns")
    decided = decide(offers=[offer("h1"), offer("h2", 1.0)], unmet=[unmet()], machines=[bad])
    assert hosts(decided) == ["h2"]
    decided = decide(offers=[offer("h1")], unmet=[unmet()], machines=[bad])
    assert hosts(decided) == []
    assert decided.coming["run_x"] == "no node fits; fake:lab/h1: it burns"
    later = decide(offers=[offer("h1")], unmet=[unmet()], machines=[bad], now=95.0 + POLICY.block_s)
    assert hosts(later) == ["h1"]


def test_each_failure_in_a_row_doubles_the_pause_up_to_a_limit() -> None:
    past = [
        machine(number, state=MachineState.FAILED, broken=True, ended=1000.0 + number, reason="no")
        for number in range(3)
    ]
    for passed, tried in ((4 * POLICY.block_s - 1, []), (4 * POLICY.block_s + 1, ["h1"])):
        assert hosts(decide(offers=[offer("h1")], unmet=[unmet()], machines=past, now=1002.0 + passed)) == tried
    many = [replace(past[0], id=f"mach_{number}") for number in range(60)]
    assert hosts(decide(offers=[offer("h1")], unmet=[unmet()], machines=many, now=1000.0 + POLICY.block_max_s + 1))


def test_a_fleet_has_no_more_machines_than_it_may() -> None:
    two = replace(FLEET, most=2)
    offers = [offer("h1"), offer("h2", 1.0), offer("h3", 2.0)]
    assert hosts(decide(fleet=two, offers=offers, unmet=[unmet(cpu=4, run_id=f"run_{n}") for n in range(3)])) == [
        "h1",
        "h2",
    ]
    assert hosts(decide(fleet=two, offers=offers, unmet=[unmet(3, gang=True, cpu=4)])) == []
    full = decide(
        fleet=replace(FLEET, most=1),
        offers=offers,
        unmet=[unmet(cpu=4)],
        machines=[machine(state=MachineState.STOPPING)],
    )
    assert "has all its 1 machines" in full.coming["run_x"]


def test_a_paused_fleet_starts_nothing_and_says_so() -> None:
    decided = decide(fleet=replace(FLEET, paused=True), offers=[offer("h1")], unmet=[unmet()])
    assert hosts(decided) == []
    assert "the fleet lab is paused" in decided.coming["run_x"]


def test_machines_of_another_project_are_none_of_ours() -> None:
    assert hosts(decide(fleet=replace(FLEET, project="other"), offers=[offer("h1")], unmet=[unmet()])) == []


def test_a_machine_is_up_when_its_agent_joined() -> None:
    one = machine()
    (up,) = machines(decide(machines=[one], nodes=[joined(one)]))
    assert (up.state, up.node, up.started) == (MachineState.UP, f"node_{one.id}", 100.0)


def test_a_label_is_believed_within_its_project_only() -> None:
    one = machine(idle_since=99.0)
    assert machines(decide(machines=[one], nodes=[replace(joined(one), project="other")])) == []


def test_one_that_never_joins_is_ended_and_its_offer_blocked() -> None:
    one = machine(idle_since=99.0)
    (slow,) = machines(decide(machines=[one], starting_s={one.id: POLICY.start_s + 1}))
    assert (slow.state, slow.broken) == (MachineState.STOPPING, True)
    patient = machine(idle_since=99.0, offer=offer("h1", start_s=1000.0))
    assert machines(decide(machines=[patient], starting_s={one.id: POLICY.start_s + 1})) == []


def test_what_its_provider_lost_is_over_at_once_with_its_node() -> None:
    one = machine(state=MachineState.UP, node="node_mach_1", started=1.0)
    held = [task(node="node_mach_1")]
    seen = {one.id: MachineSighting(alive=False, detail="reclaimed")}
    decided = decide(machines=[one], nodes=[joined(one)], held=held, sightings=seen)
    (failed,), (gone,) = machines(decided), nodes(decided)
    assert (failed.state, failed.reason, failed.broken) == (MachineState.FAILED, "reclaimed", True)
    assert (gone.over, gone.state) == ("reclaimed", NodeState.GONE)
    assert decided.over == ()  # its tasks are declared lost first


def test_an_idle_machine_goes_after_its_time_and_its_node_is_drained_with_it() -> None:
    one = machine(state=MachineState.UP, node="node_mach_1", started=1.0)
    there = joined(one)
    (idle,) = machines(decide(machines=[one], nodes=[there], now=100.0))
    assert idle.idle_since == 100.0
    assert machines(decide(machines=[idle], nodes=[there], now=399.0)) == []
    decided = decide(machines=[idle], nodes=[there], now=400.0)
    (stopping,), (drained,) = machines(decided), nodes(decided)
    assert (stopping.state, drained.drain, drained.state) == (MachineState.STOPPING, True, NodeState.DRAINING)
    assert len(decided.groups) == 1  # both, or neither
    (busy,) = machines(decide(machines=[idle], nodes=[there], held=[task(node=there.id)], now=400.0))
    assert (busy.state, busy.idle_since) == (MachineState.UP, None)


def test_a_removed_fleet_lets_tasks_end_then_goes() -> None:
    leaving = replace(FLEET, ending=True)
    one = machine(state=MachineState.UP, node="node_mach_1", started=1.0, idle_since=50.0)
    decided = decide(fleet=leaving, machines=[one], nodes=[joined(one)], held=[task(node="node_mach_1")])
    assert [node.drain for node in nodes(decided)] == [True]
    assert all(one.state is MachineState.UP for one in machines(decided))
    (stopping,) = machines(decide(fleet=leaving, machines=[one], nodes=[joined(one, drain=True)]))
    assert stopping.state is MachineState.STOPPING
    over = replace(one, state=MachineState.GONE, ended=60.0, node="")
    decided = decide(fleet=leaving, machines=[over])
    assert (decided.machines, decided.fleets) == ((over,), (leaving,))


def test_a_removed_or_silent_node_ends_its_machine() -> None:
    one = machine(state=MachineState.UP, node="node_mach_1", started=1.0)
    (stopping,) = machines(decide(machines=[one]))
    assert (stopping.state, stopping.broken) == (MachineState.STOPPING, False)
    (stopping,) = machines(decide(machines=[one], nodes=[joined(one, state=NodeState.GONE)]))
    assert (stopping.state, stopping.broken) == (MachineState.STOPPING, True)


def test_what_is_over_is_forgotten_after_its_time() -> None:
    one = machine(state=MachineState.GONE, ended=100.0)
    assert decide(machines=[one], now=200.0).machines == ()
    assert decide(machines=[one], now=101.0 + POLICY.remember_s).machines == (one,)


states = st.sampled_from(list(MachineState))


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, Any]:
    """Any mixture of machines, nodes, tasks and needs."""
    some = []
    for number in range(draw(st.integers(0, 6))):
        state = draw(states)
        over = state in {MachineState.GONE, MachineState.FAILED}
        some.append(
            machine(
                number,
                state,
                offer=offer(f"h{number % 4}"),
                ended=draw(st.floats(0, 100)) if over else None,
                broken=draw(st.booleans()),
                idle_since=draw(st.none() | st.floats(0, 100)),
                started=1.0 if state is MachineState.UP else None,
                node=f"node_mach_{number}" if state is MachineState.UP else "",
            )
        )
    there = [joined(one, cpu=0) for one in some if draw(st.booleans())]  # or the scheduler had used them
    held = [task(index=number, node=one.id) for number, one in enumerate(there) if draw(st.booleans())]
    seen = {one.id: MachineSighting(alive=draw(st.booleans())) for one in some if draw(st.booleans())}
    needed = []
    for number in range(draw(st.integers(0, 4))):
        count = draw(st.integers(1, 3))
        cpu = draw(st.sampled_from([1.0, 4.0])) if count == 1 else 4.0
        needed.append(unmet(count, gang=draw(st.booleans()), run_id=f"run_{number}", cpu=cpu))
    return {
        "machines": some,
        "nodes": there,
        "held": held,
        "sightings": seen,
        "unmet": needed,
        "offers": [offer(f"h{number}", float(number)) for number in range(4)],
        "fleet": replace(
            FLEET, most=draw(st.none() | st.integers(0, 4)), paused=draw(st.booleans()), ending=draw(st.booleans())
        ),
        "now": 100.0 + draw(st.floats(0, 1000)),
    }


@given(worlds())
def test_whatever_the_world_is_no_offer_is_used_twice_and_no_limit_passed(world: dict[str, Any]) -> None:
    decided = decide(**world)
    after = {one.id: one for one in world["machines"]} | {one.id: one for one in machines(decided)}
    live = [one for one in after.values() if one.state not in {MachineState.GONE, MachineState.FAILED}]
    new = [one for one in machines(decided) if one.version == 0]
    fleet = world["fleet"]
    assert len({one.offer.id for one in new}) == len(new)  # each host is there once
    assert not {one.offer.id for one in new} & {one.offer.id for one in live if one not in new and one.started is None}
    if new:
        assert not fleet.paused
        assert not fleet.ending
        assert fleet.most is None or len(live) <= fleet.most
    held = {one.node for one in world["held"]}
    for one in machines(decided):
        if one.state is MachineState.STOPPING and one.node in held:  # only what is lost anyway ends with tasks on it
            assert one.reason == "its node was removed"
    assert not {one.id for one in decided.over} & held


@given(worlds())
def test_deciding_twice_is_deciding_once(world: dict[str, Any]) -> None:
    world |= {"sightings": {}}  # one that has just joined is found dead at the second look only
    first = decide(**world)
    after = {one.id: one for one in world["machines"]} | {one.id: replace(one, version=1) for one in machines(first)}
    changed = {one.id: one for one in world["nodes"]} | {one.id: one for one in nodes(first)}
    again = decide(**{**world, "machines": list(after.values()), "nodes": list(changed.values())})
    started = [one for one in machines(again) if one.version == 0]
    waits = {one.run for one in machines(first) if one.version == 0}
    assert not {one.run for one in started} & waits


def test_only_machines_that_did_not_start_speak_against_their_offer() -> None:
    """One that worked for a while and was then killed is started again at once; one that fell over at once is not."""
    for worked_s, tried in ((None, []), (POLICY.settled_s - 1, []), (POLICY.settled_s, ["h1"])):
        started = None if worked_s is None else 90.0 - worked_s
        over = machine(state=MachineState.FAILED, broken=True, started=started, ended=90.0, reason="killed")
        assert hosts(decide(offers=[offer("h1")], unmet=[unmet()], machines=[over], now=91.0)) == tried
