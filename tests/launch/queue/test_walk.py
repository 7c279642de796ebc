"""Who is next."""

from __future__ import annotations

from nexus.launch.core.placement.rooms import Rooms, need_key
from nexus.launch.core.queue.lines import Queue
from nexus.launch.core.queue.walk import Justice, Walk, ahead
from tests.launch.build import replace, role, run

ROLE = role()


class Line:
    """A queue of small runs, and what everybody holds."""

    def __init__(self) -> None:
        self.queue = Queue(Rooms())
        self.held: dict[str, float] = {}
        self.users: dict[tuple[str, str], float] = {}
        self.weight: dict[str, float] = {}

    def put(self, name: str, *, project: str = "p", user: str = "u", priority: int = 50, at: float = 0.0) -> None:
        one = run(ROLE, id=name, project=project, user=user, created=at)
        one = replace(one, plan=replace(one.plan, priority=priority))
        self.queue.put(one, "shape", (need_key(ROLE),), [("main", 0)])

    def justice(self, now: float = 0.0, aging_s: float = 1e9) -> Justice:
        def weight(project: str) -> float:
            return self.weight.get(project, 1.0)

        projects = {key.project for key in self.queue.lines} | set(self.held)
        total = sum(map(weight, projects))
        return Justice(
            share=lambda project: self.held.get(project, 0.0) / weight(project),
            user_share=lambda project, user: self.users.get((project, user), 0.0),
            deserves=lambda _: 1.0 / total,
            now=now,
            aging_s=aging_s,
        )

    def order(self, each: float = 0.0, **more: float) -> list[str]:
        """Everybody's turn, when each run takes so much of everything."""
        walk, found = Walk(self.queue.lines.values(), self.justice(**more)), []
        while (turn := walk.next()) is not None:
            line, name = turn
            found.append(name)
            key = line.key
            self.held[key.project] = self.held.get(key.project, 0.0) + each
            self.users[key.project, key.user] = self.users.get((key.project, key.user), 0.0) + each
            walk.go_on(line)
        return found


def test_priority_goes_first_then_age() -> None:
    line = Line()
    line.put("old", at=1.0)
    line.put("new", at=2.0)
    line.put("high", priority=60, at=3.0)
    line.put("low", priority=10, at=0.0)
    assert line.order() == ["high", "old", "new", "low"]


def test_projects_take_turns_by_what_they_hold_over_their_weight() -> None:
    line = Line()
    for number in range(6):
        line.put(f"a{number}", project="a", at=float(number))
        line.put(f"b{number}", project="b", at=100.0 + number)
    line.weight = {"b": 2.0}
    order = line.order(each=0.05)
    assert order[:6] == ["a0", "b0", "b1", "a1", "b2", "b3"], "b has twice the weight, though it came later"


def test_a_project_that_holds_much_waits_for_one_that_holds_nothing() -> None:
    line = Line()
    line.put("a", project="a", at=0.0)
    line.put("b", project="b", at=9.0)
    line.held = {"a": 0.5}
    assert line.order() == ["b", "a"]


def test_users_of_a_project_share_it() -> None:
    line = Line()
    for number in range(3):
        line.put(f"ada{number}", user="ada", at=float(number))
    line.put("eve", user="eve", at=50.0)
    assert line.order(each=0.1) == ["ada0", "eve", "ada1", "ada2"]


def test_who_waits_below_the_fair_share_rises_and_who_has_more_does_not() -> None:
    line = Line()
    line.put("low", project="a", priority=50, at=0.0)
    line.put("high", project="b", priority=60, at=9900.0)
    assert line.order(now=8900.0, aging_s=900.0) == ["high", "low"]
    assert line.order(now=9900.0, aging_s=900.0) == ["low", "high"], "eleven steps of 900 s against ten points"
    line.held = {"a": 0.9}
    assert line.order(now=9900.0, aging_s=900.0) == ["high", "low"]


def test_nobody_starves_under_a_stream_of_higher_runs() -> None:
    """I7: a run of the lowest priority has its turn after at most 100 steps of aging, however many come above it."""
    line, aging = Line(), 60.0
    line.put("low", project="a", priority=0, at=0.0)
    waited = 0
    while True:
        now = waited * aging
        line.put(f"high{waited}", project="b", priority=100, at=now)
        if line.order(now=now, aging_s=aging)[0] == "low":
            break
        line.queue.drop(f"high{waited}")
        waited += 1
        assert waited <= 101
    assert waited == 100


def test_a_line_that_is_left_out_lets_the_others_go_on() -> None:
    line = Line()
    line.put("a1", project="a", at=0.0)
    line.put("a2", project="a", at=1.0)
    line.put("b", project="b", at=2.0)
    walk = Walk(line.queue.lines.values(), line.justice())
    turn = walk.next()
    assert turn is not None and turn[1] == "a1"
    turn = walk.next()  # the line of a had no room: nobody behind its head is tried
    assert turn is not None and turn[1] == "b"
    walk.go_on(turn[0])
    assert walk.next() is None


def test_how_many_are_ahead() -> None:
    line = Line()
    for number in range(4):
        line.put(f"r{number}", at=float(number))
    line.put("high", priority=90, at=9.0)
    mine = line.queue.line_of("r2")
    assert mine is not None
    assert ahead(line.queue.lines.values(), line.justice(), "r2", mine) == 3


def test_a_run_that_wants_something_else_changes_its_line() -> None:
    queue, one = Queue(Rooms()), run(ROLE, id="x")
    queue.put(one, "first", (need_key(ROLE),), [("main", 0)])
    queue.put(one, "second", (need_key(ROLE),), [("main", 1)])
    assert (len(queue), [key.shape for key in queue.lines], queue.wanted["x"]) == (1, ["second"], [("main", 1)])
    queue.drop("x")
    queue.drop("x")
    assert (len(queue), queue.lines, queue.line_of("x")) == (0, {}, None)
