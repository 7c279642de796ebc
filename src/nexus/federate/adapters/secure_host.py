"""A host's side of secure sums: one machine for each of its clients and attempts, and what it will not do for a server.

It derives the terms of a sum from its own settings, so no server can lower them. Whoever took the masks off one sum of
a round does not do so again for other survivors: the difference of two sums is somebody's update.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from secrets import token_bytes

import structlog

from nexus.federate.core.secure.coding import Coding
from nexus.federate.core.secure.party import Client
from nexus.federate.core.secure.primitives import Words
from nexus.federate.core.secure.scheme import Scheme
from nexus.federate.protocol import Receipt, SecureStep, Work
from nexus.kernel.errors import JobError, NexusError

log = structlog.get_logger()

Ask = Callable[[str, int], bytes]  # (phase, client): the question
Say = Callable[[str, int, bytes], Receipt]  # (phase, client, answer)
Known = Callable[[int, str], bytes]  # (client, voucher): its identity's public key; raises DeniedError


@dataclass
class _Sum:
    """One attempt: its machines, and the identities that its vouchers named."""

    number: int
    attempt: int
    clients: dict[int, Client]
    roster: dict[int, bytes]


class SecureHost:
    """`identity` is the private key that this host signs with."""

    def __init__(self, scheme: Scheme, identity: bytes, known: Known, *, least: int) -> None:
        """`least`: in a smaller sum than of so many clients, this host takes no part."""
        self._scheme, self._identity, self._known, self._least = scheme, identity, known, least
        self._sum: _Sum | None = None
        self._unmasked: dict[tuple[str, int], tuple[int, ...]] = {}  # by the round's model and client: the survivors

    def work(
        self, work: Work, coding: Callable[[int], Coding], words: Callable[[int], Words], ask: Ask, say: Say
    ) -> list[int]:
        """Answer for each client what the step asks; who had its last word accepted, and is in the sum."""
        step = work.secure
        if step is None:
            raise JobError("the server asks for a step and does not say which", hint="It speaks another version.")
        summed = self._of(work.number, step)
        counted = []
        for client in work.clients:
            question = ask(step.phase, client)
            try:
                answer = self._answer(summed, work, step, client, coding, words, question)
            except JobError as error:
                log.warning("federate.secure_objection", client=client, phase=step.phase, reason=error.message)
                answer = b""
            receipt = say(step.phase, client, answer)
            if receipt.counted and step.phase == "unmask" and client in summed.clients[client].survivors:
                counted.append(client)
        return counted

    def _of(self, number: int, step: SecureStep) -> _Sum:
        if self._sum is None or (self._sum.number, self._sum.attempt) != (number, step.attempt):
            self._sum = _Sum(number, step.attempt, {}, {})
        self._learn(self._sum.roster, step.vouchers)
        return self._sum

    def _learn(self, roster: dict[int, bytes], vouchers: Mapping[int, str]) -> None:
        """Believe vouchers once each: who had one identity in this attempt gets no other."""
        for client, voucher in vouchers.items():
            if client in roster:
                continue
            try:
                roster[client] = self._known(client, voucher)
            except NexusError as error:
                log.warning("federate.not_vouched_for", client=client, reason=error.message)

    def _answer(
        self,
        summed: _Sum,
        work: Work,
        step: SecureStep,
        client: int,
        coding: Callable[[int], Coding],
        words: Callable[[int], Words],
        question: bytes,
    ) -> bytes:
        if step.phase == "keys":
            self._enter(summed, work, step, client, coding(len(step.members)).size, words)
        machine = summed.clients.get(client)
        if machine is None:
            raise JobError("this host was started after that sum had begun", hint="It takes part in the next round.")
        answer = machine.answer(step.phase, question)
        if step.phase == "check":
            before = self._unmasked.setdefault((work.model, client), machine.survivors)
            if before != machine.survivors:
                raise JobError(
                    "this round was summed before, over other clients: the difference would be somebody's update",
                    hint="Start the run again.",
                )
        return answer

    def _enter(
        self, summed: _Sum, work: Work, step: SecureStep, client: int, size: int, words: Callable[[int], Words]
    ) -> None:
        if client in summed.clients:
            return
        if len(step.members) < self._least:
            raise JobError(
                f"a sum of {len(step.members)} clients is smaller than this host takes part in: {self._least}",
                hint="The cohort times the quorum of its own settings says so.",
            )
        summed.clients[client] = self._scheme.client(
            self._scheme.group(work.model, work.number, step.attempt, step.members, size),
            client,
            identity=self._identity,
            roster=summed.roster,
            words=lambda: words(client),
            fresh=token_bytes,
        )
