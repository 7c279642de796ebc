"""Rollouts as properties: a small world of replicas that start, crash and hang, driven by every kind of wish."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nexus.deploy.core import rollout
from nexus.deploy.core.rollout import ReplicaSeen, RunSeen, Scale, Stop, Submit, decide, go_back, previous, start
from nexus.deploy.model import Endpoint, EndpointState, Revision, RevisionState
from nexus.kernel.errors import ConflictError
from nexus.launch.model import RolePlan, RunPlan

PLAN = RunPlan(kind="deploy", roles=(RolePlan(name="replica"),))


def revision(number: int, now: float = 0.0) -> Revision:
    return Revision(number=number, plan=PLAN, model=f"m{number}", engine="predictor", began=now, moved=now)


def endpoint(replicas: int = 2) -> Endpoint:
    return Endpoint(
        id="end_1", project="lab", created=0.0, name="e", user="ada", replicas=replicas, target=1,
        revisions=(revision(1),),
    )  # fmt: skip


@dataclass
class FakeRun:
    """A run of replicas: `nature` says how they behave. index -> ticks it has lived."""

    nature: str
    ages: dict[int, int] = field(default_factory=dict)
    down: set[int] = field(default_factory=set)  # once ready, now starting again
    crashes: int = 0
    ended: bool = False

    def scale(self, count: int) -> None:
        self.ages = {index: self.ages.get(index, 0) for index in range(count)}

    def tick(self) -> None:
        for index in self.ages:
            self.ages[index] += 1
            if self.nature == "crashes" and self.ages[index] >= 2:
                self.ages[index] = 0
                self.crashes += 1

    def ready(self, index: int) -> bool:
        return self.nature == "good" and self.ages[index] >= 2


class World:
    """What the loop of the service does, with time."""

    def __init__(self, replicas: int) -> None:
        self.endpoint = endpoint(replicas)
        self.natures = {1: "good"}
        self.runs: dict[int, FakeRun] = {}
        self.now = 0.0
        self.busy = 0  # requests that closed replicas still answer

    def seen(self) -> dict[int, RunSeen]:
        return {
            number: RunSeen(
                tuple(ReplicaSeen(index, run.ready(index), self.busy) for index in sorted(run.ages)),
                run.crashes,
                run.ended,
            )
            for number, run in self.runs.items()
        }

    @property
    def state(self) -> str:
        return str(self.endpoint.state)

    def live(self) -> int:
        return sum(len(run.ages) for run in self.runs.values())

    def serving(self) -> int:
        return sum(
            run.ready(index)
            for number, run in self.runs.items()
            for revision in self.endpoint.revisions
            if revision.number == number
            for index in run.ages
            if index < revision.open
        )

    def step(self) -> None:
        before, wanted, lived = self.serving(), self.endpoint.replicas, self.live()
        decision = decide(self.endpoint, self.seen(), self.now)
        for action in decision.actions:
            if isinstance(action, Submit):
                self.runs[action.revision] = FakeRun(self.natures[action.revision])
                self.runs[action.revision].scale(action.count)
                changed = decision.endpoint.revision(action.revision)

                decision = replace(
                    decision, endpoint=decision.endpoint.with_revision(replace(changed, run=f"run{action.revision}"))
                )
            elif isinstance(action, Scale):
                self.runs[action.revision].scale(action.count)
            elif isinstance(action, Stop):
                self.runs[action.revision].scale(0)
                self.runs[action.revision].ended = True
        self.endpoint = decision.endpoint
        assert self.serving() >= min(before, wanted), decision.said
        broken = sum(not run.ready(i) for n, run in self.runs.items() if n != self.endpoint.target for i in run.ages)
        added = self.live() - lived
        assert added <= 0 or self.live() - broken <= wanted + rollout.SURGE, decision.said

    def tick(self, ticks: int = 1, seconds: float = 5.0) -> None:
        for _ in range(ticks):
            self.now += seconds
            for run in self.runs.values():
                run.tick()
            self.step()

    def deploy(self, nature: str) -> None:
        number = max(r.number for r in self.endpoint.revisions) + 1
        self.natures[number] = nature
        self.endpoint = start(self.endpoint, revision(number, self.now), self.now)

    def settle(self) -> None:
        self.busy = 0
        for _ in range(400):
            self.tick()


def test_the_first_revision_comes_up_at_once():
    world = World(3)
    world.step()
    assert len(world.runs[1].ages) == 3
    assert world.state == "creating"
    world.tick(2)
    assert world.state == "ready"
    assert world.endpoint.stable == 1


def test_a_roll_over_moves_one_at_a_time():
    world = World(2)
    world.settle()
    world.deploy("good")
    counts = []
    for _ in range(20):
        world.tick()
        counts.append((len(world.runs[1].ages), len(world.runs[2].ages) if 2 in world.runs else 0))
        assert world.serving() >= 2
    assert list(dict.fromkeys(counts)) == [(2, 1), (1, 1), (1, 2), (0, 2)]
    assert world.endpoint.stable == 2
    assert world.endpoint.revision(1).state is RevisionState.RETIRED


def test_a_closed_replica_is_kept_until_it_has_answered_or_its_time_is_up():
    world = World(1)
    world.settle()
    world.deploy("good")
    world.busy = 1
    world.tick(5)
    assert world.endpoint.revision(1).open == 0
    assert len(world.runs[1].ages) == 1
    world.tick(20)
    assert not world.runs[1].ages


@pytest.mark.parametrize("nature", ["hangs", "crashes"])
def test_a_bad_revision_is_rolled_back_with_its_reason(nature: str):
    world = World(2)
    world.settle()
    world.deploy(nature)
    for _ in range(100):
        world.tick()
        assert world.serving() == 2
    assert world.endpoint.target == 1
    assert world.endpoint.state is EndpointState.READY
    assert world.endpoint.revision(2).state is RevisionState.BAD
    assert "revision 2 is bad" in world.endpoint.fault
    assert not world.runs[2].ages


@pytest.mark.parametrize("nature", ["hangs", "crashes"])
def test_a_bad_first_revision_fails_until_there_is_a_good_one(nature: str):
    world = World(1)
    world.natures[1] = nature
    world.settle()
    assert world.state == "failed"
    world.deploy("good")
    world.settle()
    assert world.state == "ready"
    assert world.endpoint.fault == ""


def test_going_back():
    world = World(1)
    with pytest.raises(ConflictError, match="no earlier"):
        previous(world.endpoint)
    world.settle()
    world.deploy("good")
    world.settle()
    back = previous(world.endpoint)
    assert back.number == 1
    world.natures[3] = "good"
    world.endpoint = go_back(world.endpoint, back, world.now)
    assert world.endpoint.target == 3  # revision 1 no longer runs: a copy of it rolls over
    assert world.endpoint.revision(3).model == "m1"
    world.settle()
    assert (world.endpoint.state, world.endpoint.stable) == (EndpointState.READY, 3)


def test_going_back_within_a_roll_over_keeps_the_run():
    world = World(2)
    world.settle()
    world.deploy("hangs")
    world.tick(2)
    world.endpoint = go_back(world.endpoint, world.endpoint.revision(1), world.now)
    world.settle()
    assert (world.endpoint.target, world.endpoint.state) == (1, EndpointState.READY)
    assert len(world.runs[1].ages) == 2
    assert not world.runs[2].ages


def test_only_the_number_changes():

    world = World(1)
    world.settle()
    for wanted in (3, 1, 2):
        world.endpoint = replace(world.endpoint, replicas=wanted)
        world.settle()
        assert (len(world.runs[1].ages), world.endpoint.state) == (wanted, EndpointState.READY)


WISHES = st.one_of(
    st.tuples(st.just("deploy"), st.sampled_from(["good", "hangs", "crashes"])),
    st.tuples(st.just("resize"), st.integers(1, 4)),
    st.tuples(st.just("crash"), st.integers(0, 3)),
    st.tuples(st.just("busy"), st.integers(0, 1)),
    st.tuples(st.just("back"), st.just(0)),
    st.tuples(st.just("tick"), st.integers(1, 12)),
)


def crash(world: World, index: int) -> None:
    for run in world.runs.values():
        if index in run.ages:
            run.ages[index] = 0


def resize(world: World, count: int) -> None:
    world.endpoint = replace(world.endpoint, replicas=count)


def busy(world: World, count: int) -> None:
    world.busy = count


def back(world: World, _: int) -> None:
    try:
        earlier = previous(world.endpoint)
    except ConflictError:
        return
    world.natures[max(r.number for r in world.endpoint.revisions) + 1] = world.natures[earlier.number]
    world.endpoint = go_back(world.endpoint, earlier, world.now)


WISH: dict[str, Any] = {
    "deploy": World.deploy,
    "resize": resize,
    "crash": crash,
    "busy": busy,
    "back": back,
    "tick": World.tick,
}


# Three revisions at once, after a resize: the stable one's reserve once held the only place for the target's second.
@example(1, [("tick", 3), ("deploy", "good"), ("resize", 2), ("tick", 2), ("deploy", "good")])
@settings(max_examples=60, deadline=None)
@given(replicas=st.integers(1, 4), wishes=st.lists(WISHES, max_size=12))
def test_any_wishes_in_any_order(replicas: int, wishes: list[tuple[str, Any]]):
    """No step closes what is needed (checked in `step`); in the end one good revision serves, or none was good."""

    world = World(replicas)
    for what, value in wishes:
        WISH[what](world, value)
    world.settle()
    alive = {number: len(run.ages) for number, run in world.runs.items() if run.ages}
    if world.endpoint.state is EndpointState.FAILED:
        assert not world.endpoint.stable
        assert not alive
    else:
        assert world.endpoint.state is EndpointState.READY
        assert alive == {world.endpoint.target: world.endpoint.replicas}
        assert world.natures[world.endpoint.target] == "good"
        assert world.serving() == world.endpoint.replicas
