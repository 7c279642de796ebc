"""Run a secure sum without a network: who drops out when, and who lies, is up to the test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np

from nexus.federate.core.secure import primitives
from nexus.federate.core.secure.party import PHASES, Client, Group, Server
from nexus.federate.core.secure.primitives import Words
from nexus.federate.core.secure.scheme import Scheme
from nexus.kernel.errors import NexusError

Change = Callable[[int, str, bytes], bytes | None]  # (client, phase, message): what is delivered; None: nothing


def fresh(seed: str) -> Callable[[], bytes]:
    """Bytes that a test can repeat."""
    count = iter(range(1_000_000))
    return lambda: sha256(f"{seed}/{next(count)}".encode()).digest()


@dataclass
class Parties:
    """A group and its machines. `vanish` names the phase from which on a client says nothing."""

    scheme: Scheme
    inputs: Mapping[int, Words]
    vanish: Mapping[int, str] = field(default_factory=dict)
    attempt: int = 1
    seed: str = "s"
    objections: dict[int, str] = field(default_factory=dict)
    up: dict[int, int] = field(default_factory=dict)
    traffic: list[tuple[int, str, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        members = tuple(self.inputs)
        self.group: Group = self.scheme.group("run", 1, self.attempt, members, len(self.inputs[members[0]]))
        self.identities = {one: sha256(f"identity {one}".encode()).digest() for one in members}
        self.roster = {one: primitives.identity(private) for one, private in self.identities.items()}
        self.server: Server = self.scheme.server(self.group)
        self.clients: dict[int, Client] = {one: self.client(one) for one in members}

    def client(self, one: int, group: Group | None = None) -> Client:
        return self.scheme.client(
            group or self.group,
            one,
            identity=self.identities[one],
            roster=self.roster,
            words=lambda: self.inputs[one],
            fresh=fresh(f"{self.seed}/{one}/{self.attempt}"),
        )

    def gone(self, client: int, phase: str) -> bool:
        return client in self.vanish and PHASES.index(phase) >= PHASES.index(self.vanish[client])

    def run(self, ask: Change = lambda _c, _p, m: m, tell: Change = lambda _c, _p, m: m) -> Words:
        """The sum. `ask` may change what the server asks, `tell` what a client says. Raises JobError."""
        for phase in PHASES:
            self.phase(phase, ask, tell)
        return self.server.sum

    def phase(self, phase: str, ask: Change = lambda _c, _p, m: m, tell: Change = lambda _c, _p, m: m) -> None:
        for client in self.server.missing:
            question = ask(client, phase, self.server.question(client))
            if self.gone(client, phase) or question is None:
                continue
            try:
                answer = tell(client, phase, self.clients[client].answer(phase, question))
            except NexusError as error:
                self.objections[client] = error.message
                continue
            if answer is None:
                continue
            self.traffic.append((client, phase, answer))
            self.up[client] = self.up.get(client, 0) + len(answer)
            try:
                self.server.take(client, phase, answer)
            except NexusError as error:
                self.objections[client] = error.message
        self.server.close()


def inputs(scheme: Scheme, count: int, size: int, seed: int = 0) -> dict[int, Words]:
    """Any words of the ring that may not wrap when they are added."""
    dice = np.random.default_rng(seed)
    levels = (scheme.modulus - 1) // 2 // count
    return {
        3 * one + 1: (dice.integers(-levels, levels, size, endpoint=True) % scheme.modulus).astype(np.uint32)
        for one in range(count)
    }


def plain(scheme: Scheme, rows: Sequence[Words]) -> Words:
    total = np.zeros(len(rows[0]), np.uint64)
    for row in rows:
        total = (total + row) % np.uint64(scheme.modulus)
    return total.astype(np.uint32)
