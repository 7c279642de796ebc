"""Every protocol: the sum of who survived, to the bit, whoever vanishes when; or none, and the reason why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexus.federate.core.secure import SECURE
from nexus.federate.core.secure.party import PHASES, Advert, Group
from nexus.kernel.errors import JobError, NexusError, UsageError
from tests.federate.secure.parties import Parties, inputs, plain

pytestmark = pytest.mark.torch
NAMES = [name for name in SECURE if name != "ckks"]  # what hides by masks
decode = msgspec.msgpack.decode
encode = msgspec.msgpack.encode


def scheme(name: str) -> Any:
    options = {"neighbours": 6} if name == "secagg_plus" else {}
    return SECURE.get(name)(**options)


def expected(parties: Parties) -> np.ndarray:
    return plain(parties.scheme, [parties.inputs[one] for one in parties.server.survivors])


# --------------------------------------------------------------------------- drop-outs


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("phase", PHASES)
def test_three_of_ten_may_vanish_in_any_phase(phase, name):
    made = replace(scheme(name), neighbours=8) if name == "secagg_plus" else scheme(name)
    gone = {1: phase, 10: phase, 22: phase}
    parties = Parties(made, inputs(made, 10, 500), gone)
    total = parties.run()
    before = PHASES.index(phase) <= PHASES.index("masked")
    assert parties.server.survivors == [one for one in parties.inputs if not (before and one in gone)]
    assert (total == expected(parties)).all()
    assert not parties.objections


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("phase", PHASES)
def test_where_too_many_vanish_there_is_no_sum(phase, name):
    made = scheme(name)
    parties = Parties(made, inputs(made, 10, 50), dict.fromkeys([1, 4, 7, 10, 13, 16, 19], phase))
    with pytest.raises(JobError) as caught:
        parties.run()
    assert "needed" in caught.value.message
    assert caught.value.hint
    assert len(parties.server.sum) == 0


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
@pytest.mark.parametrize("name", NAMES)
def test_the_sum_is_exact_or_there_is_none(name, data):
    made = scheme(name)
    count = data.draw(st.integers(3, 9))
    rows = inputs(made, count, data.draw(st.integers(1, 40)), seed=data.draw(st.integers(0, 99)))
    gone = data.draw(st.dictionaries(st.sampled_from(list(rows)), st.sampled_from(PHASES)))
    parties = Parties(made, rows, gone)
    try:
        total = parties.run()
    except JobError:
        assert len(parties.server.sum) == 0
        assert len(gone) > (1 - made.threshold) * count - 1, "so few may vanish"
        return
    assert (total == expected(parties)).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_extremes_do_not_wrap(name):
    made = scheme(name)
    levels = (made.modulus - 1) // 2 // 5
    for value in (levels, made.modulus - levels):
        rows = {one: np.full(3, value, np.uint32) for one in range(5)}
        parties = Parties(made, rows)
        whole = parties.run().astype(np.int64)
        whole[whole > made.modulus // 2] -= made.modulus
        assert (whole == 5 * (levels if value == levels else -levels)).all()


# --------------------------------------------------------------------------- what the server sees


@pytest.mark.parametrize("name", NAMES)
def test_what_travels_is_noise_and_holds_no_update(name):
    made = scheme(name)
    rows = {one: np.full(20_000, 12_345 + one, np.uint32) for one in range(6)}
    parties = Parties(made, rows)
    parties.run()
    for client, phase, message in parties.traffic:
        assert rows[client][:4].tobytes() not in message, phase
        if phase == "masked":
            words = np.frombuffer(message, "<u4").astype(np.float64) / made.modulus
            assert len(np.unique(words)) > 19_990
            counts = np.histogram(words, 50, (0, 1))[0]
            assert ((counts - 400) ** 2 / 400).sum() < 110, "chi-square with 49 degrees of freedom: p < 1e-6"


@pytest.mark.parametrize("name", NAMES)
def test_the_same_update_is_masked_anew_in_each_attempt(name):
    made = scheme(name)
    rows = inputs(made, 4, 100)
    first, second = Parties(made, rows), Parties(made, rows, attempt=2)
    assert (first.run() == second.run()).all()
    masked = [{c: m for c, phase, m in parties.traffic if phase == "masked"} for parties in (first, second)]
    assert all(masked[0][one] != masked[1][one] for one in rows)


# --------------------------------------------------------------------------- a server that cheats


def objections(parties: Parties, said: str) -> list[int]:
    return [one for one, reason in parties.objections.items() if said in reason]


@pytest.mark.parametrize("name", NAMES)
def test_a_server_cannot_slip_its_own_keys_between_clients(name):
    made = scheme(name)
    parties = Parties(made, inputs(made, 5, 10))

    def ask(client: int, phase: str, message: bytes) -> bytes:
        if phase != "shares":
            return message
        adverts = decode(message, type=dict[int, Advert])
        forged = next(one for one in adverts if one != client)
        adverts[forged].keys[0] = bytes(range(32))
        return encode(adverts)

    with pytest.raises(JobError):
        parties.run(ask=ask)
    assert objections(parties, "not signed by it") == list(parties.inputs)


@pytest.mark.parametrize("name", NAMES)
def test_keys_of_another_attempt_are_not_taken_for_this_ones(name):
    made = scheme(name)
    rows = inputs(made, 4, 10)
    old = Parties(made, rows, attempt=7)
    old.phase("keys")
    parties = Parties(made, rows)
    with pytest.raises(JobError):
        parties.run(ask=lambda c, phase, m: old.server.question(c) if phase == "shares" else m)
    assert len(objections(parties, "not signed by it")) == 4


@pytest.mark.parametrize("name", NAMES)
def test_a_server_cannot_tell_clients_different_lists_of_survivors(name):
    made = scheme(name)
    parties = Parties(made, inputs(made, 6, 10))
    members = list(parties.inputs)

    def ask(client: int, phase: str, message: bytes) -> bytes:
        if phase == "check" and client in members[:3]:
            return encode([one for one in members if one != members[5]])
        return message

    with pytest.raises(JobError):
        parties.run(ask=ask)
    assert len(objections(parties, "agree on who survived")) >= 5


@pytest.mark.parametrize("name", NAMES)
def test_a_client_answers_each_phase_once_and_in_order(name):
    made = scheme(name)
    parties = Parties(made, inputs(made, 4, 10))
    client = parties.clients[1]
    with pytest.raises(JobError, match="too early"):
        client.answer("masked", b"")
    question = parties.server.question(1)
    assert client.answer("keys", question) == client.answer("keys", question), "asked again, it says the same"
    parties.run()
    with pytest.raises(JobError, match="asked twice"):
        client.answer("check", encode([1, 4, 7]))
    with pytest.raises(JobError, match="asked twice"):
        client.answer("unmask", encode({}))


@pytest.mark.parametrize("name", NAMES)
def test_a_box_that_was_changed_on_its_way_is_noticed(name):
    made = scheme(name)
    parties = Parties(made, inputs(made, 4, 10))

    def ask(client: int, phase: str, message: bytes) -> bytes:
        if phase != "masked":
            return message
        boxes = decode(message, type=dict[int, bytes])
        sender = next(iter(boxes))
        boxes[sender] = bytes([boxes[sender][0] ^ 1]) + boxes[sender][1:]
        return encode(boxes)

    with pytest.raises(JobError):
        parties.run(ask=ask)
    assert len(objections(parties, "changed on its way")) == 4


def test_terms_that_protect_nobody_are_refused_by_clients():
    good = Group("run", 1, 1, (1, 2, 3, 4), degree=3, threshold=3, size=5)
    good.check()
    for bad in (
        replace(good, members=(1, 2), degree=1, threshold=2),
        replace(good, members=(1, 2, 2, 2)),
        replace(good, threshold=2),
        replace(good, threshold=5),
        replace(good, degree=0, threshold=1),
    ):
        with pytest.raises(JobError, match="protect nobody"):
            bad.check()
    for name in NAMES:
        with pytest.raises(UsageError, match="threshold"):
            SECURE.get(name)(threshold=0.5)


# --------------------------------------------------------------------------- clients that cheat


@pytest.mark.parametrize("name", NAMES)
def test_a_lie_about_a_share_ends_the_sum(name):
    made = scheme(name)
    parties = Parties(made, inputs(made, 5, 10), {13: "masked"})

    def tell(client: int, phase: str, message: bytes) -> bytes:
        if (client, phase) != (1, "unmask"):
            return message
        if name == "lightsecagg":
            return bytes(4) + message[4:] if message[:4] != bytes(4) else b"\1\0\0\0" + message[4:]
        seeds, keys = decode(message)
        return encode([{one: bytes(33) for one in seeds}, keys])

    with pytest.raises(JobError, match=r"do not fit|are wrong"):
        parties.run(tell=tell)
    assert len(parties.server.sum) == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("phase", PHASES)
def test_nonsense_is_refused_and_the_others_go_on(phase, name):
    made = scheme(name)
    parties = Parties(made, inputs(made, 7, 20))
    junk = [b"", b"junk", b"\xff" * 84, encode([1, 2]), encode({1: b"x"}), encode([{1: b"x"}, {}]), bytes(81)]
    for wanted in PHASES[: PHASES.index(phase)]:
        parties.phase(wanted)
    for nonsense in junk:
        with pytest.raises(UsageError):
            parties.server.take(1, phase, nonsense)
    parties.vanish = {1: phase}
    for wanted in PHASES[PHASES.index(phase) :]:
        parties.phase(wanted)
    assert (parties.server.sum == expected(parties)).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_message_counts_once_and_not_from_strangers_or_late(name):
    made = scheme(name)
    parties = Parties(made, inputs(made, 5, 10))
    for phase in PHASES:
        for client in parties.server.missing:
            answer = parties.clients[client].answer(phase, parties.server.question(client))
            assert parties.server.take(client, phase, answer)
            assert not parties.server.take(client, phase, answer)
            assert not parties.server.take(client, phase, b"another one")
        for stranger in (99, -1):
            with pytest.raises(NexusError):
                parties.server.take(stranger, phase, b"")
        parties.server.close()
        with pytest.raises(UsageError, match="not open"):
            parties.server.take(1, phase, b"")
    assert (parties.server.sum == expected(parties)).all()


def test_neighbourhoods_are_mutual_regular_and_nobodys_choice():
    members = tuple(range(0, 80, 2))
    group = Group("run", 1, 1, members, degree=8, threshold=6, size=5)
    hoods = group.neighbourhoods()
    assert all(len(hood) == 9 and one in hood for one, hood in hoods.items())
    assert all(one in hoods[other] for one, hood in hoods.items() for other in hood)
    assert hoods != replace(group, attempt=2).neighbourhoods()
    whole = replace(group, degree=39).neighbourhoods()
    assert all(hood == members for hood in whole.values())


def test_fewer_neighbours_cost_fewer_bytes():
    few, all_pairs = scheme("secagg_plus"), scheme("secagg")
    sent = []
    for made in (few, all_pairs):
        parties = Parties(made, inputs(made, 24, 10))
        parties.run()
        sent.append(parties.up[1])
    assert sent[0] < sent[1] / 2.5
