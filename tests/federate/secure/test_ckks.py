"""Sums of ciphertexts: exact after rounding, unreadable without the clients' key, whoever drops out."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from nexus.federate.core.secure.ckks import Ckks
from nexus.kernel.errors import JobError, UsageError
from tests.federate.secure.parties import Parties, inputs, plain

pytest.importorskip("tenseal", reason="the [homomorphic] extra is not installed")
pytestmark = pytest.mark.torch
SCHEME = Ckks()


def test_the_sum_is_exact_over_several_ciphertexts():
    parties = Parties(SCHEME, inputs(SCHEME, 4, 4096 + 70))
    assert (parties.run() == plain(SCHEME, list(parties.inputs.values()))).all()


@pytest.mark.parametrize("phase", ["keys", "masked", "check", "unmask"])
def test_clients_may_vanish(phase):
    parties = Parties(SCHEME, inputs(SCHEME, 5, 30), {4: phase})
    total = parties.run()
    assert (total == plain(SCHEME, [parties.inputs[one] for one in parties.server.survivors])).all()
    assert (4 in parties.server.survivors) is (phase in {"check", "unmask"})


def test_without_who_made_the_key_there_is_no_sum():
    with pytest.raises(JobError, match="needed"):
        Parties(SCHEME, inputs(SCHEME, 4, 5), {1: "shares"}).run()


def test_the_server_cannot_decrypt_what_it_adds():
    parties = Parties(SCHEME, inputs(SCHEME, 4, 5))
    for phase in ("keys", "shares", "masked"):
        parties.phase(phase)
    with pytest.raises(ValueError, match="secret_key"):
        parties.server._sums[0].decrypt()  # type: ignore[attr-defined]


def test_nonsense_is_refused_and_a_lie_about_the_sum_ends_it():
    parties = Parties(SCHEME, inputs(SCHEME, 4, 5))
    parties.phase("keys")
    parties.phase("shares")
    for nonsense in (b"", msgspec.msgpack.encode([b"junk"]), msgspec.msgpack.encode([])):
        with pytest.raises(UsageError):
            parties.server.take(1, "masked", nonsense)
    parties.phase("masked")
    parties.phase("check")
    with pytest.raises(JobError, match="differently"):
        parties.phase("unmask", tell=lambda c, _p, m: np.ones(5, "<u4").tobytes() if c == 4 else m)
