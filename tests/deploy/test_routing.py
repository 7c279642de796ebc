"""Routing decisions as properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.deploy.core.headers import read_request
from nexus.deploy.core.meters import BOUNDS_S, Meter
from nexus.deploy.core.routing import choose, index, may_send_again, spare_s, split_target
from nexus.deploy.model import Replica, Route, Routes
from nexus.kernel.errors import UsageError

NAMES = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8)
REPLICAS = NAMES.map(lambda names: tuple(Replica(name, "127.0.0.1", 1) for name in names))
LOADS = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 9))


@given(REPLICAS, LOADS, st.sets(st.sampled_from("abcdefgh")), st.integers(0, 1000))
def test_the_least_loaded_of_those_not_to_be_avoided(replicas, loads, avoid, turn):
    chosen = choose(replicas, loads, avoid, turn)
    able = [replica for replica in replicas if replica.id not in avoid]
    if not able:
        assert chosen is None
    else:
        assert chosen is not None
        assert chosen in able
        assert loads.get(chosen.id, 0) == min(loads.get(replica.id, 0) for replica in able)


@given(REPLICAS, st.integers(0, 1000))
def test_equals_take_turns(replicas, start):
    turns = [choose(replicas, {}, (), start + step) for step in range(len(replicas))]
    assert set(turns) == set(replicas)


@given(st.sampled_from(["GET", "POST", "PUT", "PATCH"]), st.booleans(), st.booleans(), st.booleans())
def test_nothing_is_sent_again_that_could_be_done_twice(method, pure, answered, sent):
    again = may_send_again(method, pure=pure, answered=answered, sent=sent)
    if answered:
        assert not again
    if sent and not pure and method in {"POST", "PATCH"}:
        assert not again
    if not answered and (not sent or pure):
        assert again


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("/e/digits/predict", ("digits", "/predict")),
        ("/e/digits", ("digits", "/")),
        ("/e/digits?x=/1", ("digits", "/?x=/1")),
        ("/e/digits/a/../b?c", ("digits", "/a/../b?c")),
        ("/e//predict", None),
        ("/e/", None),
        ("/v1/models", None),
        ("/else", None),
    ],
)
def test_targets(target, found):
    assert split_target(target) == found


def test_projects_do_not_see_each_other():
    table = index(Routes(1, (Route(project="a", endpoint="e", openai=True), Route(project="b", endpoint="e"))))
    assert table.find("a", "e") != table.find("b", "e")
    assert table.find("c", "e") is None
    assert [len(table.models(project)) for project in "abc"] == [1, 0, 0]


def test_a_failing_replica_is_spared_longer_and_longer():
    waits = [spare_s(failures) for failures in range(1, 100)]
    assert waits[0] == 0.2
    assert waits == sorted(waits)
    assert waits[-1] == 10.0


@given(st.lists(st.tuples(st.sampled_from([200, 404, 500, 503]), st.floats(0, 1000)), max_size=50))
def test_meters_count_everything_once(answers):
    meter = Meter("p", "e")
    for status, seconds in answers:
        meter.count(status, seconds)
    assert meter.requests == sum(meter.buckets) == len(answers)
    assert meter.errors == sum(status >= 500 for status, _ in answers)
    for bound, count in zip(BOUNDS_S, meter.buckets, strict=False):
        assert count <= sum(seconds <= bound for _, seconds in answers)


FIELDS = st.lists(st.tuples(st.sampled_from([b"A", b"X-B", b"Cookie", b"TE", b"Connection"]), st.binary(max_size=20)))


@given(FIELDS)
def test_what_is_passed_on_is_one_line_a_field(fields):
    try:
        head = read_request(b"GET", b"/", "1.1", [(b"Host", b"x"), *fields])
    except UsageError:
        assert any(b"\n" in value or b"\r" in value for _, value in fields)
        return
    lines = head.lines.split(b"\r\n")[:-1]
    assert all(line.startswith((b"a: ", b"x-b: ")) for line in lines)
