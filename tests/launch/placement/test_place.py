"""Placement: against brute force where that is possible, and in words where people read it."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.kernel.units import Range
from nexus.launch.core.placement.fit import misfit, price_of
from nexus.launch.core.placement.place import in_words, place
from nexus.launch.core.placement.rooms import Rooms, need_key
from nexus.launch.core.policy import Policy
from nexus.launch.model import Gpu, GpuNeed, Needs, Node, NodeState, RolePlan, RunPlan, Task
from tests.launch.build import GB, needs, node, plan, role, task
from tests.launch.placement.oracle import ranked as rank

A100 = Gpu("NVIDIA A100-SXM4-40GB", 40 * GB)
RTX = Gpu("NVIDIA GeForce RTX 4090", 24 * GB)


def wanted(of: RunPlan) -> list[tuple[str, int]]:
    return [(one.name, index) for one in of.roles for index in range(one.count)]


def only(of: RolePlan, *nodes: Node, held: tuple[Task, ...] = ()) -> str:
    """The one reason why the role has no place."""
    answer = place(plan(of), [(of.name, 0)], nodes, held)
    assert not answer.fits
    return "; ".join(one.reason for one in answer.rejections)


# ------------------------------------------------------------------ against brute force

SMALL_NEEDS = st.builds(
    needs,
    cpu=st.sampled_from([0, 1, 2]),
    memory_b=st.sampled_from([0, 2 * GB]),
    gpu=st.integers(0, 2),
    spot=st.sampled_from(["auto", "auto", "never"]),
)
NODES = st.lists(
    st.tuples(
        st.sampled_from([1, 2, 4]),
        st.sampled_from([2 * GB, 4 * GB]),
        st.integers(0, 3),
        st.sampled_from([0.0, 1.0, 2.5]),
        st.sampled_from(["", "lan1", "lan2"]),
        st.booleans(),
    ),
    max_size=4,
)


def brute_force(of: RunPlan, nodes: list[Node], *, ranked: bool) -> float | None:
    """The lowest price of all assignments, tried one by one; as ranked, or as paid."""
    tasks = wanted(of)
    best: float | None = None
    for choice in itertools.product(nodes, repeat=len(tasks)):
        if of.network == "fast" and len(tasks) > 1:
            networks = {one.network or one.id for one in choice}
            if len(networks) > 1:
                continue
        price = 0.0
        for one in nodes:
            roles = [of.role(name) for (name, _), where in zip(tasks, choice, strict=True) if where is one]
            mine = [role.needs for role in roles]
            cpu, memory = sum(n.cpu.least for n in mine), sum(n.memory_b.least for n in mine)
            gpus = sum(n.gpu.count for n in mine)
            capacity = one.capacity
            if cpu > capacity.cpu or memory > capacity.memory_b or gpus > len(capacity.gpus):
                break
            if any(n.spot == "never" and one.spot for n in mine):
                break
            price += sum(rank(role, one, Policy()) if ranked else price_of(role, one) for role in roles)
        else:
            if best is None or price < best:
                best = price
    return best


@given(
    first=SMALL_NEEDS,
    second=SMALL_NEEDS,
    counts=st.tuples(st.integers(1, 2), st.integers(0, 2)),
    raw=NODES,
    network=st.sampled_from(["any", "fast"]),
    style=st.sampled_from(["", "pack", "spread"]),
    most=st.sampled_from([None, None, 0.0, 0.5, 1.0, 2.0]),
)
@settings(max_examples=250, deadline=None)
def test_it_finds_what_brute_force_finds_at_the_same_price(
    first: Needs,
    second: Needs,
    counts: tuple[int, int],
    raw: list[tuple[int, int, int, float, str, bool]],
    network: str,
    style: str,
    most: float | None,
) -> None:
    nodes = [
        node(f"n{at}", cpu=cpu, memory_b=memory, gpus=(A100,) * gpus, price=price, network=lan, spot=spot)
        for at, (cpu, memory, gpus, price, lan, spot) in enumerate(raw)
    ]
    roles = (role("a", counts[0], needs=first), role("b", counts[1], needs=second))
    of = plan(*roles, network=network, placement=style, max_price=most)
    expected, paid = brute_force(of, nodes, ranked=True), brute_force(of, nodes, ranked=False)
    answer = place(of, wanted(of), nodes, ())
    assert answer.fits == (paid is not None and (most is None or paid <= most))
    if answer.fits:
        by_id = {one.id: one for one in nodes}
        ranked = sum(rank(of.role(one.role), by_id[one.node], Policy()) for one in answer.assignments)
        if most is None:
            assert ranked == pytest.approx(expected)
        else:
            assert answer.price <= most + 1e-9
        assert {(one.role, one.index) for one in answer.assignments} == set(wanted(of))
        held = [(one.node, gpu) for one in answer.assignments for gpu in one.gpus]
        assert len(held) == len(set(held)), "an accelerator was given twice"
    else:
        assert answer.reason
    assert place(of, wanted(of), nodes[::-1], ()) == answer, "the order of the nodes decides nothing"


@given(st.lists(st.sampled_from([0, 1, 2]), max_size=6), st.integers(1, 6))
@settings(deadline=None)
def test_what_is_held_is_not_given_again(held_cpu: list[int], count: int) -> None:
    nodes = [node("a", cpu=4), node("b", cpu=4)]
    held = [task(index=at, node=nodes[at % 2].id, cpu=float(cpu)) for at, cpu in enumerate(held_cpu)]
    of = plan(role(count=count, needs=needs(cpu=1)))
    answer = place(of, wanted(of), nodes, held)
    for one in nodes:
        used = sum(t.cpu for t in held if t.node == one.id)
        assert used + sum(a.node == one.id for a in answer.assignments) <= max(4, used)
    free = sum(max(0, 4 - sum(t.cpu for t in held if t.node == one.id)) for one in nodes)
    assert answer.fits == (count <= free)


# ------------------------------------------------------------------ choices


def test_the_cheapest_node_wins_and_ties_go_by_name() -> None:
    nodes = [node("c", price=2.0), node("b", price=1.0), node("a", price=1.0)]
    assert place(plan(), [("main", 0)], nodes, ()).assignments[0].node == "node_a"


def test_tasks_that_ask_for_nothing_fit_on_a_small_laptop_and_spread_over_equals() -> None:
    of = plan(role("server"), role("client", 3))
    assert place(of, wanted(of), [node("laptop", cpu=2)], ()).fits
    answer = place(of, wanted(of), [node("a"), node("b")], ())
    assert sorted(one.node for one in answer.assignments) == ["node_a", "node_a", "node_b", "node_b"]


def test_accelerators_are_packed_so_that_large_jobs_still_fit() -> None:
    nodes = [node("a", gpus=(A100,) * 4), node("b", gpus=(A100,) * 4)]
    held = [task(node="node_b", gpus=(1,))]
    answer = place(plan(role(needs=needs(gpu=1))), [("main", 0)], nodes, held)
    assert (answer.assignments[0].node, answer.assignments[0].gpus) == ("node_b", (0,))


def test_a_gang_stays_on_one_fast_network() -> None:
    nodes = [node("a", cpu=1, network="x"), node("b", cpu=1, network="y", price=1.0), node("c", cpu=1, network="y")]
    of = plan(role(count=2, gang=True, needs=needs(cpu=1)), network="fast")
    assert {one.node for one in place(of, wanted(of), nodes, ()).assignments} == {"node_b", "node_c"}
    assert "no fast network" in place(of, wanted(of), nodes[:2], ()).reason


def test_a_large_gang_is_placed_without_recursion() -> None:
    nodes = [node(f"n{at:03}", cpu=8) for at in range(200)]
    of = plan(role(count=1500, needs=needs(cpu=1)), role("other", needs=needs(cpu=2)))
    answer = place(of, wanted(of), nodes, ())
    assert len(answer.assignments) == 1501


def test_max_price_counts_what_the_run_holds_already() -> None:
    of = plan(role(needs=needs(cpu=4)), max_price=3.0)
    dear = node("a", price=2.0)
    assert place(of, [("main", 0)], [dear], (), spent=1.0).fits
    refused = place(of, [("main", 0)], [dear], (), spent=1.5)
    assert "max_price" in refused.reason
    assert "1.50/h that it holds already" in refused.reason


def test_a_share_of_a_node_costs_a_share_of_its_price() -> None:
    dear = node("a", cpu=4, gpus=(A100,) * 4, price=8.0)
    assert price_of(role(needs=needs(gpu=1)), dear) == 2.0
    assert price_of(role(needs=needs(cpu=4, gpu=1)), dear) == 8.0
    assert price_of(role(), dear) == 2.0, "what says nothing counts as one cpu"


def test_a_flaky_spot_machine_loses_against_a_slightly_dearer_stable_one() -> None:
    stable = node("stable", price=1.05)
    flaky = node("flaky", price=1.0, spot=True, reclaims_per_h=0.5)
    of = plan(role(needs=needs(cpu=4)))
    assert place(of, [("main", 0)], [flaky, stable], ()).assignments[0].node == "node_stable"
    calm = node("calm", price=1.0, spot=True, reclaims_per_h=0.05)
    assert place(of, [("main", 0)], [calm, stable], ()).assignments[0].node == "node_calm"
    assert place(of, [("main", 0)], [node("dear", price=1.2), flaky], ()).assignments[0].node == "node_flaky"
    capped = plan(role(needs=needs(cpu=4)), max_price=1.0)
    assert place(capped, [("main", 0)], [flaky, stable], ()).assignments[0].node == "node_flaky"


def test_pack_fills_few_nodes_and_spread_uses_many() -> None:
    nodes = [node("a", gpus=(A100,) * 4), node("b", gpus=(A100,) * 4)]

    def used(style: str, of: RolePlan) -> list[int]:
        found = place(plan(of, placement=style), [("main", 0), ("main", 1)], nodes, ())
        return sorted(Counter(one.node for one in found.assignments).values())

    assert used("", role(needs=needs(gpu=1))) == [2]
    assert used("spread", role(needs=needs(gpu=1))) == [1, 1]
    assert used("", role(needs=needs(cpu=1))) == [1, 1]
    assert used("pack", role(needs=needs(cpu=1))) == [2]


def test_what_exists_goes_before_an_offer_of_the_same_price_and_after_a_cheaper_one() -> None:
    rooms = Rooms.of([node("z", price=1.0, gpus=(A100,) * 4)])
    rooms.put(node("a", price=1.0, gpus=(A100,)), offer="cloud:a100", start_s=60)
    of = plan(role(needs=needs(gpu=1, cpu=4)))
    chosen = rooms.place(of, [("main", 0)]).assignments[0]
    assert (chosen.node, chosen.offer) == ("node_z", "")
    rooms.put(node("b", price=0.5, gpus=(A100,)), offer="cloud:cheap", start_s=60)
    chosen = rooms.place(of, [("main", 0)]).assignments[0]
    assert (chosen.node, chosen.offer) == ("node_b", "cloud:cheap")


def test_a_run_keeps_to_the_nodes_of_its_project() -> None:
    rooms = Rooms.of([node("a"), replace(node("b"), project="q")])
    assert [one.node for one in rooms.place(plan(), [("main", 0)], project="q").assignments] == ["node_b"]
    nowhere = rooms.place(plan(), [("main", 0)], project="r", explain=True)
    assert nowhere.rejections == ()
    assert "nexus agent join" in nowhere.reason


# ------------------------------------------------------------------ reasons


def test_every_rejection_has_its_reason_in_words() -> None:
    assert only(role(needs=needs(cpu=8)), node("a")) == "needs 8 cpu; has 4"
    assert only(role(needs=Needs(cpu=Range(1, 2))), node("a")) == "wants at most 2 cpu; has 4"
    assert only(role(needs=needs(memory_b=16 * GB)), node("a")) == "needs 16 GB memory; has 8 GB"
    assert only(role(needs=Needs(disk_b=Range(200 * GB))), node("a")) == "needs 200 GB disk; has 100 GB"
    assert only(role(needs=needs(gpu=1)), node("a")) == "needs 1 gpu; has no gpu"
    wants = role(needs=Needs(gpu=GpuNeed(2, ("A100", "H100"), Range(40 * GB))))
    has = "has NVIDIA GeForce RTX 4090 (24 GB)"
    assert only(wants, node("a", gpus=(RTX,))) == f"needs 2 A100 or H100 with 40 GB or more; {has}"
    assert only(role(needs=needs(labels={"site": "x"})), node("a")) == "needs site=x; has no label site"
    assert only(role(needs=needs(labels={"site": "x"})), node("a", labels={"site": "y"})) == "needs site=x; site is 'y'"
    europe = role(needs=needs(regions=("eu-*",)))
    assert only(europe, node("a", region="us-1")) == "needs region eu-*; is in us-1"
    assert only(europe, node("a")) == "needs region eu-*; is in no known region"
    assert only(role(needs=needs(spot="never")), node("a", spot=True)) == "is a spot machine, which may be reclaimed"
    assert only(role(needs=needs(spot="only")), node("a")) == "is not a spot machine"
    assert only(role(image="x:1"), node("a")) == "has no container engine for the image x:1"
    assert only(role(isolation="sandbox"), node("a")) == "has no sandbox"
    assert only(role(), node("a", state=NodeState.DRAINING)) == "is draining"
    full = (task(cpu=3.0, memory_b=GB),)
    assert only(role(needs=needs(cpu=2)), node("a"), held=full) == "needs 2 cpu; 1 of 4 are free"
    gpu_full = (task(gpus=(0,)),)
    gpu_node = node("a", gpus=(A100, RTX))
    assert only(role(needs=needs(gpu=1, gpu_names=("a100",))), gpu_node, held=gpu_full) == (
        "needs 1 gpu; 0 of the 1 that fit are free"
    )


def test_no_node_at_all_says_how_to_get_one() -> None:
    assert "nexus agent join" in place(plan(), [("main", 0)], [], ()).reason


def test_together_they_do_not_fit() -> None:
    of = plan(role(count=3, gang=True, needs=needs(cpu=2)))
    answer = place(of, wanted(of), [node("a", cpu=4)], ())
    assert not answer.fits
    assert answer.reason == "the nodes that fit have no room for all 3 tasks at once"


def test_many_rejections_are_counted() -> None:
    nodes = [node(f"n{at}", cpu=2 if at % 3 else 1) for at in range(30)]
    rejections = place(plan(role(needs=needs(cpu=4))), [("main", 0)], nodes, ()).rejections
    assert in_words(rejections, {}) == ("20 nodes: needs 4 cpu; has 2", "10 nodes: needs 4 cpu; has 1")


def test_reasons_are_counted_by_what_nodes_have_in_common_where_there_are_many() -> None:
    nodes = [node(f"n{at}", cpu=4, region="eu" if at % 3 else "us", spot=at % 2 == 0) for at in range(600)]
    held = [task(index=at, node=f"node_n{at}", cpu=3.0) for at in range(0, 600, 3)]
    of = plan(role(needs=needs(cpu=2, spot="never")))
    found = place(of, [("main", 0)], [*nodes, node("off", state=NodeState.DRAINING)], held, explain=True)
    assert found.fits
    assert sorted((one.reason, one.count) for one in found.rejections) == [
        ("is a spot machine, which may be reclaimed", 300),
        ("is draining", 1),
        ("needs 2 cpu; 1 of 4 are free", 100),
    ]
    assert in_words(found.rejections, {})[0] == "300 nodes: is a spot machine, which may be reclaimed"


def test_nothing_is_looked_for_in_vain_where_it_was_too_little() -> None:
    """What is blocked is not tried again until room that it could fit is freed, and is still there."""
    rooms = Rooms.of([node("a", cpu=4), node("b", cpu=4, region="eu")])
    big = need_key(role(needs=needs(cpu=3)))
    european = need_key(role(needs=needs(cpu=3, regions=("eu",))))
    first, second = task(index=1, node="node_a", cpu=3.0), task(index=2, node="node_b", cpu=3.0)
    rooms.hold(first)
    rooms.hold(second)
    for need in (big, european):
        rooms.watch(need)
    mark = rooms.mark()
    assert not rooms.served(mark)
    rooms.let_go(first)
    assert rooms.served(mark) == {big: ["node_a"]}
    assert not rooms.served(rooms.mark()), "that was heard"
    rooms.hold(first)
    assert not rooms.served(mark), "it was taken again"
    rooms.put(node("c", cpu=8, region="eu"))
    assert rooms.served(mark) == {big: ["node_c"], european: ["node_c"]}
    rooms.unwatch(european)
    assert rooms.served(mark) == {big: ["node_c"]}
    rooms.watch(european)
    assert rooms.serves(["node_b", "node_c"]) == {big, european}
    rooms.drop("node_c")
    assert not rooms.served(mark)


def test_a_need_is_watched_for_on_shelves_that_are_made_later() -> None:
    rooms = Rooms.of([node("a", cpu=4, labels={"rack": "1"})])
    labelled, plain = (need_key(role(needs=needs(cpu=1, labels=labels))) for labels in ({"rack": "2"}, {}))
    rooms.watch(labelled)
    rooms.watch(plain)
    mark = rooms.mark()
    rooms.put(node("b", cpu=4, labels={"rack": "2"}))
    rooms.put(node("c", cpu=64, labels={"rack": "1"}))
    assert rooms.served(mark) == {plain: ["node_c", "node_b"], labelled: ["node_b"]}


def test_needs_that_nobody_waits_with_are_forgotten() -> None:
    rooms = Rooms.of([node("a", cpu=400)])
    kinds = [need_key(role(needs=needs(cpu=float(number)))) for number in range(1, 300)]
    for need in kinds:
        rooms.watch(need)
    for need in kinds[1:]:
        rooms.unwatch(need)
    assert rooms.serves(["node_a"]) == {kinds[0]}
    rooms.watch(kinds[1])
    assert rooms.serves(["node_a"]) == {kinds[0], kinds[1]}


def test_gpu_names_are_globs_in_any_case() -> None:
    for glob in ("A100", "a100", "*A100*40GB", "nvidia a100"):
        assert not misfit(role(needs=needs(gpu=1, gpu_names=(glob,))), node("a", gpus=(A100,)))
    assert misfit(role(needs=needs(gpu=1, gpu_names=("H100",))), node("a", gpus=(A100,)))


def test_shelves_that_nodes_left_behind_go() -> None:
    rooms = Rooms()
    for at in range(2000):
        rooms.put(node("a", region=f"r{at}"))
    assert len(rooms._index.shelves) < 300
    assert rooms.place(plan(role(needs=needs(regions=("r1999",)))), [("main", 0)]).fits


def test_of_equal_price_the_fullest_node_wins_wherever_it_stands() -> None:
    nodes = [
        node("a", gpus=(A100,) * 4, region="north"),
        node("b", gpus=(A100,) * 4, region="north"),
        node("c", gpus=(A100,) * 4, region="south"),
    ]
    held = [task(index=1, node="node_b", gpus=(0, 1)), task(index=2, node="node_c", gpus=(0,))]
    assert place(plan(role(needs=needs(gpu=1))), [("main", 0)], nodes, held).assignments[0].node == "node_b"


def test_a_network_with_one_cheap_node_is_not_yet_a_cheap_network() -> None:
    of = plan(role(count=2, gang=True, needs=needs(cpu=4)), network="fast")
    nodes = [node("a", price=1.0, network="x"), node("b", price=5.0, network="x")]
    nodes += [node("c", price=2.9, network="y"), node("d", price=2.9, network="y")]
    assert {one.node for one in place(of, wanted(of), nodes, ()).assignments} == {"node_c", "node_d"}
