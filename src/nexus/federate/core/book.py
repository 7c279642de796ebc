"""One round's book on the server: which updates count, when the round may close, and why it fails. Pure.

Time comes in as seconds on one monotonic clock. Whatever comes twice, late or from nobody is answered, not counted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil

from nexus.federate.model import Outcome, Settings, Turn
from nexus.federate.protocol import Receipt, ReceiptState, UpdateHead


class Verdict(StrEnum):
    """What to do with a round now."""

    WAIT = "wait"
    CLOSE = "close"
    FAIL = "fail"


@dataclass
class Book:
    """The round `number`, which starts from the model with digest `model`."""

    number: int
    model: str
    cohort: Sequence[int]
    settings: Settings
    opened: float
    turns: dict[int, Turn] = field(default_factory=dict)  # how a client's turn ended, once it did

    @property
    def needed(self) -> int:
        """How many updates make a quorum."""
        return max(1, ceil(self.settings.quorum * len(self.cohort)))

    @property
    def accepted(self) -> list[int]:
        """Clients whose updates count, in the cohort's order."""
        return [client for client in self.cohort if self._is(client, Outcome.ACCEPTED)]

    @property
    def missing(self) -> list[int]:
        """Clients who have not ended their turn, in the cohort's order."""
        return [client for client in self.cohort if client not in self.turns]

    def wants(self, number: int, client: int) -> Receipt | None:
        """Why an update is not wanted, before a byte of it is taken; None: it is."""
        if number < self.number:
            return _receipt(ReceiptState.LATE, f"round {number} is over; round {self.number} is open")
        if number > self.number:
            return _receipt(ReceiptState.REFUSED, f"round {number} has not begun; round {self.number} is open")
        if client not in self.cohort:
            return _receipt(ReceiptState.REFUSED, f"client {client} is not in the cohort of round {self.number}")
        if self._is(client, Outcome.ACCEPTED):
            return _receipt(ReceiptState.DUPLICATE, "an update of this client counts already in this round")
        return None

    def answer(self, head: UpdateHead) -> Receipt | None:
        """What to say to an update before its vectors are looked at; None: look at them."""
        if (said := self.wants(head.number, head.client)) is not None:
            return said
        if head.model != self.model:
            return _receipt(ReceiptState.REFUSED, "the update started from another model than this round's")
        if not 0 < head.samples < 2**31:
            return self.refuse(head.client, f"{head.samples} is not a number of samples")
        return None

    def accept(self, head: UpdateHead, *, bytes_down: int, bytes_up: int) -> Receipt:
        """Count an update whose vectors are good and safe on the disk."""
        self.turns[head.client] = Turn(
            client=head.client,
            samples=head.samples,
            seconds=head.seconds,
            bytes_down=bytes_down,
            bytes_up=bytes_up,
            loss=head.loss,
        )
        return _receipt(ReceiptState.ACCEPTED)

    def refuse(self, client: int, reason: str) -> Receipt:
        """End a client's turn with an update that may not count. A good one may still come in its place."""
        if client in self.cohort and not self._is(client, Outcome.ACCEPTED):
            self.turns[client] = Turn(client=client, outcome=Outcome.REFUSED, reason=reason)
        return _receipt(ReceiptState.REFUSED, reason)

    def verdict(self, now: float, lost: Collection[int]) -> tuple[Verdict, str]:
        """Whether to wait, close or fail. `lost` are clients whose hosts have gone silent."""
        late = now - self.opened >= self.settings.deadline_s
        if not late and any(client not in lost for client in self.missing):
            return Verdict.WAIT, ""
        if not late and self.missing and len(self.accepted) < self.needed:
            return Verdict.WAIT, ""  # the lost ones may come back until the deadline
        if len(self.accepted) >= self.needed:
            return Verdict.CLOSE, ""
        reasons = [turn.reason for turn in self.turns.values() if turn.outcome is Outcome.REFUSED]
        why = f"; refused: {reasons[0]}" if reasons else ""
        return Verdict.FAIL, (
            f"round {self.number} has {len(self.accepted)} of {len(self.cohort)} updates, "
            f"and {self.needed} are needed{why}"
        )

    def all_turns(self, lost: Mapping[int, str]) -> list[Turn]:
        """How every client's turn ended, for the record; `lost` says why some are missing."""
        return [
            self.turns.get(client)
            or Turn(client=client, outcome=Outcome.DROPPED, reason=lost.get(client, "sent nothing before the deadline"))
            for client in self.cohort
        ]

    def _is(self, client: int, outcome: Outcome) -> bool:
        turn = self.turns.get(client)
        return turn is not None and turn.outcome is outcome


def _receipt(state: ReceiptState, reason: str = "") -> Receipt:
    return Receipt(state=state, reason=reason)
