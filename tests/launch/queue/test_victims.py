"""Who makes room: never more than must, checked against every possible set."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from nexus.launch.core.placement.rooms import Rooms
from nexus.launch.core.queue.victims import Candidate, candidate, choose, may_preempt
from nexus.launch.model import Placement
from tests.launch.build import needs, node, plan, replace, role, run, task

NODES = ("a", "b", "c")
HELD = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from(NODES), st.sampled_from([1.0, 2.0, 3.0]), st.integers(0, 90)),
    min_size=1,
    max_size=9,
)


def _candidates(held: list[tuple[int, str, float, int]]) -> tuple[Rooms, list[Candidate]]:
    """Runs 0..6, each with tasks of some cpus on some nodes, as far as they fit."""
    rooms = Rooms.of([node(name, cpu=4) for name in NODES])
    free = dict.fromkeys(NODES, 4.0)
    tasks: dict[int, list[object]] = {}
    for number, (owner, name, cpu, age) in enumerate(held):
        if cpu > free[name]:
            continue
        free[name] -= cpu
        one = task(index=number, id=f"t{number}", run=f"r{owner}", node=f"node_{name}", cpu=cpu, created=100.0 - age)
        rooms.hold(one)
        tasks.setdefault(owner, []).append(one)
    return rooms, [candidate(run(id=f"r{owner}"), mine, 100.0, 10.0) for owner, mine in tasks.items()]  # type: ignore[arg-type]


@given(HELD, st.integers(1, 3), st.sampled_from([1.0, 2.0, 4.0]))
def test_the_least_loss_of_all_sets(held: list[tuple[int, str, float, int]], count: int, cpu: float) -> None:
    rooms, candidates = _candidates(held)
    gang = plan(role(count=count, needs=needs(cpu=cpu), gang=True))
    wanted = [("main", index) for index in range(count)]

    def place() -> Placement:
        return rooms.place(gang, wanted)

    best: float | None = None
    for size in range(1, len(candidates) + 1):
        for chosen in combinations(candidates, size):
            with rooms.as_if_ended([one for victim in chosen for one in victim.tasks]):
                loss = sum(victim.loss for victim in chosen)
                if place().fits and (best is None or loss < best):
                    best = loss
    found = choose(place, rooms, candidates)
    assert (found is None) == (best is None)
    if found is not None and best is not None:
        assert abs(found.loss - best) < 1e-6
        assert found.placement.fits


def test_only_upward_and_only_who_allows_it() -> None:
    def at(priority: int, *, preemptible: bool) -> object:
        one = run()
        return replace(one, plan=replace(one.plan, priority=priority, preemptible=preemptible))

    high = at(60, preemptible=False)
    assert may_preempt(high, at(50, preemptible=True))  # type: ignore[arg-type]
    assert not may_preempt(high, at(50, preemptible=False))  # type: ignore[arg-type]
    assert not may_preempt(high, at(60, preemptible=True))  # type: ignore[arg-type]
