"""A round's book: whatever the order, each client counts once, and a quorum decides."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nexus.federate.core.book import Book, Verdict
from nexus.federate.model import Outcome, Settings
from nexus.federate.protocol import ReceiptState, UpdateHead

SETTINGS = Settings(cohort=4, quorum=0.5, deadline_s=100)
COHORT = (2, 5, 7, 9)


def book() -> Book:
    return Book(number=3, model="m", cohort=COHORT, settings=SETTINGS, opened=0.0)


def head(client, number=3, model="m", samples=10) -> UpdateHead:
    return UpdateHead(number=number, client=client, model=model, samples=samples, seconds=1.0, loss=0.5)


def offer(b: Book, h: UpdateHead) -> ReceiptState:
    return (b.answer(h) or b.accept(h, bytes_down=1, bytes_up=1)).state


OFFERS = st.lists(
    st.tuples(st.integers(0, 10), st.integers(2, 4), st.sampled_from(["m", "x"]), st.integers(-1, 3)), max_size=40
)


@given(OFFERS)
def test_each_client_counts_at_most_once_and_only_for_this_round_and_model(offers):
    b = book()
    counted = [o for o in offers if offer(b, head(*o)) is ReceiptState.ACCEPTED]
    assert len({client for client, *_ in counted}) == len(counted)
    assert all(c in COHORT and n == 3 and m == "m" and s > 0 for c, n, m, s in counted)
    assert b.accepted == [c for c in COHORT if c in {o[0] for o in counted}]
    assert [turn.client for turn in b.all_turns({})] == list(COHORT)


def test_answers_say_what_is_wrong():
    b = book()
    assert offer(b, head(2)) is ReceiptState.ACCEPTED
    assert offer(b, head(2)) is ReceiptState.DUPLICATE
    late = b.answer(head(5, number=2))
    assert late is not None
    assert late.state is ReceiptState.LATE
    assert "round 2 is over" in late.reason
    for wrong in (head(5, number=4), head(3), head(5, model="x"), head(5, samples=0)):
        answer = b.answer(wrong)
        assert answer is not None
        assert answer.state is ReceiptState.REFUSED
        assert answer.reason


def test_a_round_closes_when_all_are_here_or_lost_or_late():
    b = book()
    assert b.verdict(1.0, ())[0] is Verdict.WAIT
    for client in (2, 5):
        offer(b, head(client))
    assert b.verdict(1.0, ())[0] is Verdict.WAIT
    assert b.verdict(1.0, (7,))[0] is Verdict.WAIT, "9 may still send"
    assert b.verdict(1.0, (7, 9))[0] is Verdict.CLOSE
    assert b.verdict(100.0, ())[0] is Verdict.CLOSE
    turns = {turn.client: turn for turn in b.all_turns({7: "its host went silent"})}
    assert turns[7].outcome is turns[9].outcome is Outcome.DROPPED
    assert turns[7].reason == "its host went silent"
    assert "deadline" in turns[9].reason


def test_below_the_quorum_a_round_waits_for_its_deadline_and_then_fails():
    b = book()
    offer(b, head(2))
    assert b.verdict(99.0, (5, 7, 9))[0] is Verdict.WAIT
    verdict, reason = b.verdict(100.0, (5, 7, 9))
    assert verdict is Verdict.FAIL
    assert "1 of 4" in reason


def test_refused_by_all_fails_at_once_with_the_reason():
    b = book()
    for client in COHORT:
        b.refuse(client, "delta has values that are not finite")
    verdict, reason = b.verdict(1.0, ())
    assert verdict is Verdict.FAIL
    assert "not finite" in reason


def test_a_good_update_replaces_a_refused_one_but_never_the_other_way_round():
    b = book()
    b.refuse(2, "bad")
    assert offer(b, head(2)) is ReceiptState.ACCEPTED
    b.refuse(2, "bad again")
    assert b.accepted == [2]
