"""The server's side of one round whose updates nobody sees: a secure sum, phase by phase, with its deadlines.

What it keeps lies in memory only, and dies with the server; a server that is started anew makes a new attempt, with new
keys on both sides. No update exists here in clear, and none on the disk at all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import ceil
from secrets import randbits

from nexus.federate.core.algorithm import State
from nexus.federate.core.composition import Composition
from nexus.federate.core.secure.party import LEAST
from nexus.federate.core.total import Total
from nexus.federate.model import Outcome, Turn
from nexus.federate.protocol import Receipt, ReceiptState, SecureStep
from nexus.kernel.errors import ConflictError, JobError, UsageError


class SecureRound:
    """Round `number` from the model with digest `model`. Methods may raise JobError: then there is no sum."""

    def __init__(
        self, composition: Composition, state: State, cohort: tuple[int, ...], model: str, *, plan_b: int, now: float
    ) -> None:
        """`plan_b`: the bytes of what each client fetches; `now`: monotonic seconds."""
        assert composition.secure is not None  # noqa: S101 (its caller has looked)
        self._scheme = composition.secure
        self.number, self.model, self.cohort = state.number + 1, model, cohort
        self.coding = composition.coding(state, len(cohort))
        self.attempt = randbits(48)
        self._settings = composition.settings
        self.group = composition.secure.group(model, self.number, self.attempt, cohort, self.coding.size)
        self._server = composition.secure.server(self.group)
        self._opened = now
        self._down = dict.fromkeys(cohort, plan_b)
        self._up = dict.fromkeys(cohort, 0)
        self._declined: dict[int, str] = {}

    @property
    def done(self) -> bool:
        """Whether there is a sum."""
        return self._server.phase == "done"

    @property
    def most_b(self) -> int:
        """The largest message that a client may send: masked words, or the coded pieces of its mask."""
        return self._scheme.most_b(self.coding.size, len(self.cohort))

    @property
    def missing(self) -> list[int]:
        """Who is still to answer in this phase."""
        return [client for client in self._server.missing if client not in self._declined]

    def step(self, vouchers: Mapping[int, str]) -> SecureStep:
        """What hosts are told to do."""
        known = {client: vouchers[client] for client in self.cohort if client in vouchers}
        return SecureStep(phase=self._server.phase, attempt=self.attempt, members=self.cohort, vouchers=known)

    def question(self, attempt: int, phase: str, client: int) -> bytes:
        """Raises ConflictError when that is not what is asked (any more)."""
        if (attempt, phase) != (self.attempt, self._server.phase):
            raise ConflictError(f"phase {phase} is not open", hint="Ask for work again.")
        try:
            question = self._server.question(client)
        except UsageError as error:
            raise ConflictError(error.message, hint=error.hint) from error
        self._down[client] += len(question)
        return question

    def answer(self, attempt: int, phase: str, client: int, message: bytes) -> Receipt:
        """Take a client's answer; an empty one says that it cannot go on."""
        if (attempt, phase) != (self.attempt, self._server.phase):
            return Receipt(state=ReceiptState.LATE, reason=f"phase {phase} is over")
        if client in self._declined:
            return Receipt(state=ReceiptState.REFUSED, reason=self._declined[client])
        if not message:
            return self._decline(client, f"it could not go on in phase {phase}")
        try:
            new = self._server.take(client, phase, message)
        except UsageError as error:
            return self._decline(client, error.message)
        self._up[client] += len(message) if new else 0
        return Receipt(state=ReceiptState.ACCEPTED if new else ReceiptState.DUPLICATE)

    def close_phase(self, now: float, lost: Collection[int]) -> bool:
        """Go on to the next phase if it is time to. Raises JobError when too few are left."""
        late = now - self._opened >= self._settings.deadline_s
        enough = self._server.answered >= max(LEAST, self.group.threshold)
        if not late and self.missing and not (enough and all(client in lost for client in self.missing)):
            return False  # where there are too few, the lost ones may come back until the deadline
        phase = self._server.phase
        self._server.close()
        if phase == "masked":
            self._check_quorum()
        self._opened = now
        return True

    def total(self) -> Total:
        """What all survivors' updates sum up to."""
        return self.coding.total(self._server.sum, len(self._server.survivors))

    def turns(self, lost: Collection[int]) -> list[Turn]:
        """How each client's turn ended. Samples and losses are the clients' own affair."""
        alive, turns = set(self._server.survivors), []
        for client in self.cohort:
            bytes_down, bytes_up = self._down[client], self._up[client]
            if client in alive:
                turns.append(Turn(client=client, bytes_down=bytes_down, bytes_up=bytes_up))
                continue
            why = "its host went silent" if client in lost else "sent nothing before the deadline"
            reason, outcome = self._declined.get(client, why), Outcome.DROPPED
            turns.append(Turn(client=client, outcome=outcome, bytes_down=bytes_down, bytes_up=bytes_up, reason=reason))
        return turns

    def _check_quorum(self) -> None:
        survivors, needed = len(self._server.survivors), ceil(self._settings.quorum * len(self.cohort))
        if survivors < needed:
            raise JobError(
                f"round {self.number} has {survivors} of {len(self.cohort)} updates, and {needed} are needed",
                hint="See the clients' logs; quorum and deadline_s say how much is waited for.",
            )

    def _decline(self, client: int, reason: str) -> Receipt:
        self._declined[client] = reason
        return Receipt(state=ReceiptState.REFUSED, reason=reason)
