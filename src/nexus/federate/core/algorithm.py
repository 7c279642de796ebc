"""What an algorithm is: two halves, one on the server and one on the client, that any transport can carry.

Vectors are flat float32 numpy arrays: first the model's parameters (`State.trainable` of them), then its floating
point buffers. Algorithms compute on them with plain arithmetic, so that this module needs no library to be read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from nexus.federate.core.packing import Packing
    from nexus.federate.core.total import Total

Vector = Any  # numpy.ndarray of float32, one dimension
Vectors = Mapping[str, Vector]
Adjust = Callable[[Vector, Vector], None]  # (parameters, gradient): changes the gradient in place, before each step


Swap = Callable[[Any, Any], tuple[Any, Any]]  # (inputs, labels): others in their place


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the server knows between rounds; all that a checkpoint must hold. `number` rounds are done."""

    number: int
    model: Vector
    trainable: int
    clients: int
    extra: dict[str, Vector] = field(default_factory=dict)  # the algorithm's own: moments, control variates


@dataclass(frozen=True, slots=True)
class Fit:
    """What training on one client gave. `delta` is only good until the next fit: it is one buffer, used again."""

    delta: Vector  # new minus start
    weights: Vector  # the trained parameters' part of `delta`, in the same memory
    steps: int
    loss: float  # mean over all batches
    lr: float


@dataclass(frozen=True, slots=True)
class Gradient:
    """The gradient of a client's loss over all its samples. Its memory is that of `Fit.delta`: one buffer."""

    whole: Vector  # as long as the model: the parameters' gradient, then what the buffers changed by
    vector: Vector  # the parameters' part of it
    loss: float  # mean over all samples


@dataclass(frozen=True, slots=True)
class Step:
    """What a client's half returns: vectors for the server, and what the client keeps if they are accepted."""

    send: dict[str, Vector]
    loss: float
    keep: dict[str, Vector] = field(default_factory=dict)


class Trainer(Protocol):
    """One client's model and data, ready to train."""

    @property
    def client(self) -> int:
        """Who it is."""
        ...

    @property
    def number(self) -> int:
        """The round, from 1."""
        ...

    @property
    def samples(self) -> int:
        """How many the client has."""
        ...

    @property
    def data(self) -> tuple[Any, Any]:
        """The client's samples and labels, as tensors."""
        ...

    def dice(self, purpose: str) -> Any:
        """A numpy Generator for one purpose of this client in this round, which nobody else draws from."""
        ...

    def swap(self, change: Swap) -> None:
        """Train on other samples in this turn: what a poisoner does. They are torch tensors."""
        ...

    def fit(self, start: Vector, adjust: Adjust | None = None, *, anchor: Vector | None = None) -> Fit:
        """Train from `start` on this client's data.

        With an `anchor`, each batch's gradient is less the gradient of the same batch at that model.
        """
        ...

    def gradient(self, at: Vector) -> Gradient:
        """The gradient at `at` over all of this client's data."""
        ...


class Algorithm(Protocol):
    """A way to learn together. Its options are the fields of the frozen dataclass that implements it."""

    def begin(self, model: Vector, *, trainable: int, clients: int) -> State:
        """Server: the state before the first round."""
        ...

    def plan(self, state: State) -> dict[str, Vector]:
        """Server: what every client of the next round is sent; `model` is always there."""
        ...

    def sends(self, state: State) -> dict[str, int]:
        """Name and length of every vector in an update: what the server accepts, and nothing else."""
        ...

    def keeps(self, state: State) -> dict[str, int]:
        """Name and length of every vector that a client keeps between its rounds (zero at first)."""
        ...

    def local(self, plan: Vectors, trainer: Trainer, kept: Vectors) -> Step:
        """Client: train, and say what changed."""
        ...

    def received(self, plan: Vectors, update: Vectors) -> Vectors:
        """Server: what counts of an update, whatever its client did. An honest client's is left as it is."""
        ...

    def weight(self, samples: int) -> float:
        """Server: how much an update from that many samples counts in the mean."""
        ...

    def advance(self, state: State, total: Total) -> State:
        """Server: the state after a round whose accepted updates sum up to `total`."""
        ...

    def packing(self, state: State) -> dict[str, Packing]:
        """How vectors of an update travel, of those that do not travel as they are. Packing loses nothing."""
        ...

    def notes(self, state: State) -> dict[str, float]:
        """What people should know of the state after a round."""
        ...

    def over(self, state: State) -> str:
        """Why no further round may be run; empty: one may."""
        ...
