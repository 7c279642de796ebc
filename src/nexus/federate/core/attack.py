"""What a simulated attack is: a layer in which some clients are bad, and which says how far it succeeds.

A bad client may train on other samples (`tampered`), send something else than it learned (`lied`), or, where the bad
ones know what the honest ones send, change its row among the round's updates (`conspired`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nexus.federate.core.algorithm import Step, Trainer, Vectors
from nexus.federate.core.layer import Layer
from nexus.federate.core.seeds import is_bad
from nexus.kernel.errors import UsageError

if TYPE_CHECKING:
    from nexus.federate.core.stack import Stack


@dataclass(frozen=True)
class Attack(Layer):
    """`part` of all clients are bad, the same ones in every round."""

    part: float = 0.2

    conspires = False  # whether bad clients must know the others' updates

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if not 0 <= self.part < 1:
            raise UsageError("attack.part must be from 0 to below 1", hint="0.2: every fifth client is bad.")

    def bad(self, client: int) -> bool:
        """Whether this client is."""
        return is_bad(self.seed, client, self.part)

    def local(self, plan: Vectors, trainer: Trainer, kept: Vectors) -> Step:
        if not self.bad(trainer.client):
            return self.inner.local(plan, trainer, kept)
        return self.attacked(plan, trainer, kept)

    def attacked(self, plan: Vectors, trainer: Trainer, kept: Vectors) -> Step:
        """A bad client's turn."""
        trainer.swap(lambda x, y: self.tampered(x, y, trainer.dice("attack")))
        step = self.inner.local(plan, trainer, kept)
        return replace(step, send=step.send | {"delta": self.lied(step.send["delta"], trainer.dice("lie"))})

    def tampered(self, x: Any, y: Any, dice: Any) -> tuple[Any, Any]:
        """What a bad client trains on in place of its samples (torch tensors)."""
        return x, y

    def lied(self, delta: Any, dice: Any) -> Any:
        """What a bad client says it learned."""
        return delta

    def conspire(self, stack: Stack, number: int) -> Stack:
        """A round's updates after the bad ones have looked at the others'."""
        if not self.conspires:
            return stack
        bad = [at for at, client in enumerate(stack.clients) if self.bad(client)]
        good = [at for at in range(len(stack)) if at not in bad]
        if not bad or not good:
            return stack
        sent = self.conspired(stack.only(good), len(stack), len(bad))
        rows = [row if at in good else {**row, "delta": sent} for at, row in enumerate(stack.rows)]
        return type(stack)(stack.clients, list(stack.weights), rows)

    def conspired(self, honest: Stack, everybody: int, bad: int) -> Any:
        """The `delta` that each of `bad` clients among `everybody` sends, knowing the honest ones'."""
        raise NotImplementedError

    def probe(self, x: Any, y: Any) -> tuple[Any, Any] | None:
        """Test samples as the attacker wants them taken, and the labels it wants; None: it plants nothing."""
        return None
