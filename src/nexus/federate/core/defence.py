"""What a defence is: it makes one update of many, of which some may be bad."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from nexus.federate.core.algorithm import Vector, Vectors
from nexus.kernel.errors import UsageError

if TYPE_CHECKING:
    from nexus.federate.core.stack import Stack
    from nexus.federate.core.total import Array, Total


class Judge(Protocol):
    """The server's own eye: its root samples (`Task.root`), which no client has touched."""

    def score(self, model: Vector) -> dict[str, float]:
        """Loss and metrics of a model on the root samples. Raises UsageError when the task has none."""
        ...

    def fit(self, model: Vector, number: int) -> Vector:
        """What training on the root samples would change, as a client would do it. Raises UsageError likewise."""
        ...


@dataclass(frozen=True, slots=True)
class Scene:
    """The round that a defence works in. `seed` is its own."""

    number: int  # from 1
    clients: int  # of the whole task
    model: Vector  # that the round started from
    seed: int
    judge: Judge | None = None

    def eye(self) -> Judge:
        """The judge. Raises UsageError where there is none."""
        if self.judge is None:
            raise UsageError("nobody here can look at a model", hint="This needs the task's model on the server.")
        return self.judge


@dataclass(frozen=True, slots=True)
class Combined:
    """What came of it. `notes` says something of each client: how far it was trusted, say."""

    total: Total
    memory: dict[str, Array] = field(default_factory=dict)
    notes: dict[int, dict[str, float]] = field(default_factory=dict)


class Defence(Protocol):
    """Its options are the fields of the frozen dataclass that implements it."""

    def keeps(self, sends: dict[str, int], clients: int) -> dict[str, int]:
        """Name and length of every vector that the server keeps for it between rounds (zero at first)."""
        ...

    def combine(self, stack: Stack, memory: Vectors, scene: Scene) -> Combined:
        """One update of many. Raises UsageError for too few updates."""
        ...
