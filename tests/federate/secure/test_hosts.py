"""What a host demands of a server: vouchers by the run's authority, its own terms, one list of survivors a round."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from nexus.federate.adapters.passport import Passport
from nexus.federate.adapters.secure_host import SecureHost
from nexus.federate.adapters.vouching import Vouching
from nexus.federate.core.identity import Authority, Holder, Roll
from nexus.federate.core.secure import primitives
from nexus.federate.core.secure.coding import Coding
from nexus.federate.core.secure.party import PHASES
from nexus.federate.core.secure.secagg import SecAgg
from nexus.federate.protocol import Receipt, ReceiptState, SecureStep, Work, WorkState
from nexus.kernel.errors import DeniedError

pytestmark = pytest.mark.torch
AUTHORITY = Authority(b"the run's")
ROLL = Roll(clients=4, hosts=2)
SIZE = 6
CODING = Coding(2**32, 1.0, 1.0, 4, {"delta": SIZE - 1})


def passport(holder: Holder, authority: Authority = AUTHORITY) -> Passport:
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return Passport(authority.certificate, authority.certify(public, holder), private)


def test_keys_are_believed_by_the_runs_authority_and_for_their_own_clients_only():
    mine, other = Vouching(passport(Holder("client", 0)), ROLL), Vouching(passport(Holder("client", 1)), ROLL)
    for client in (1, 3):
        assert mine.known(client, other.voucher) == primitives.identity(other.private)
    for client, voucher in (
        (0, other.voucher),
        (1, passport(Holder("client", 1), Authority(b"another run's")).certificate),
        (1, passport(Holder("server", 0)).certificate),
        (1, passport(Holder("client", 7)).certificate),
        (1, "nonsense"),
        (1, ""),
        (1, AUTHORITY.certificate),
    ):
        with pytest.raises(DeniedError):
            mine.known(client, voucher)


class Hosts:
    """Two hosts with two clients each, and whatever server a test wants."""

    def __init__(self, *, least: int = 3) -> None:
        self.vouchings = [Vouching(passport(Holder("client", index)), ROLL) for index in range(2)]
        self.hosts = [SecureHost(SecAgg(), v.private, v.known, least=least) for v in self.vouchings]
        self.refused: dict[str, set[int]] = {}

    def run(self, attempt: int, gone: tuple[int, ...] = (), vouchers: dict[int, str] | None = None) -> bool:
        """One attempt over everybody but `gone`; whether it came to a sum."""
        members = (0, 1, 2, 3)
        server = SecAgg().server(SecAgg().group("model", 1, attempt, members, SIZE))
        known = vouchers or {client: self.vouchings[client % 2].voucher for client in members}

        def say(phase: str, client: int, message: bytes) -> Receipt:
            if not message:
                self.refused.setdefault(phase, set()).add(client)
                return Receipt(state=ReceiptState.REFUSED)
            server.take(client, phase, message)
            return Receipt(state=ReceiptState.ACCEPTED)

        for phase in PHASES:
            for index, host in enumerate(self.hosts):
                asked = tuple(c for c in server.missing if c % 2 == index and (c not in gone or phase in PHASES[:2]))
                step = SecureStep(phase=phase, attempt=attempt, members=members, vouchers=known)
                work = Work(state=WorkState.SUM, number=1, clients=asked, model="model", secure=step)
                host.work(work, lambda _: CODING, self.words, lambda _, client: server.question(client), say)
            try:
                server.close()
            except Exception:  # too few are left
                return False
        return True

    words: Callable[[int], np.ndarray] = staticmethod(lambda client: np.full(SIZE, client, np.uint32))


def test_hosts_sum_and_a_second_attempt_over_the_same_clients_may_follow():
    hosts = Hosts()
    assert hosts.run(1)
    assert hosts.run(2)
    assert hosts.refused == {}


def test_a_round_is_not_summed_again_without_one_client():
    hosts = Hosts()
    assert hosts.run(1)
    assert not hosts.run(2, gone=(3,))
    assert hosts.refused == {"check": {0, 1, 2}}


def test_a_sum_of_fewer_clients_than_their_settings_say_is_refused():
    hosts = Hosts(least=5)
    assert not hosts.run(1)
    assert hosts.refused == {"keys": {0, 1, 2, 3}}


def test_vouchers_of_another_authority_end_it():
    hosts = Hosts()
    foreign = {c: passport(Holder("client", c % 2), Authority(b"the server's")).certificate for c in range(4)}
    assert not hosts.run(1, vouchers=foreign)
    assert hosts.refused == {"shares": {0, 1, 2, 3}}
