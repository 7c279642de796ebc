"""What Federate talks about: settings, rounds, the turns of a round's clients, and how rounds are remembered."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from nexus.kernel.records import Kind, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """How a client trains: plain SGD of rate `lr` over `epochs` of its own data in batches of `batch`."""

    epochs: int = 1
    batch: int = 16
    lr: float = 0.1


@dataclass(frozen=True, slots=True)
class Part:
    """One choice of a family (see `core.parts`), with its own options; the part's file says which there are."""

    name: str
    options: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the rounds go. `options` are the algorithm's own (`mu` of FedProx); each algorithm's file says which.

    The parts stand around the algorithm in a fixed order (see `core.composition`); None: nothing of that family.
    """

    rounds: int = 10
    cohort: int = 10  # clients chosen for a round
    algorithm: str = "fedavg"
    options: dict[str, float] = field(default_factory=dict)
    query: Part | None = None  # a question to the data in the algorithm's place: see core.analytics
    schedule: Part = Part("sync")  # how rounds follow each other; all but `sync` in simulation only
    devices: Part | None = None  # how fast clients are and when they are there; in simulation only
    trace: str = ""  # a CSV file that says so of some clients; in simulation only
    sampler: Part = Part("uniform")  # who is chosen
    personal: Part | None = None  # what each client keeps for itself
    privacy: Part | None = None
    secure_aggregation: Part | None = None  # how the server sees a sum and none of its parts
    attack: Part | None = None  # what some clients do to the rest; in simulation only
    compression: Part | None = None
    defence: Part | None = None  # how updates become one, where some may be bad
    contribution: Part | None = None  # what each client is worth to the rest
    samples_cap: int = 0  # a client counts as having that many samples at most; 0: as it says; 1: all count alike
    local: Local = Local()
    seed: int = 0
    quorum: float = 0.5  # the part of the cohort without which a round fails
    deadline_s: float = 600.0  # after which a round goes on without those who are missing
    lost_after_s: float = 15.0  # silence after which a host is not waited for


class Outcome(StrEnum):
    """How a client's turn in a round ended."""

    ACCEPTED = "accepted"  # its update is in the aggregate, once
    REFUSED = "refused"  # it sent something that may not be counted; `reason` says what
    DROPPED = "dropped"  # it sent nothing in time


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One client's part in one round."""

    client: int
    outcome: Outcome = Outcome.ACCEPTED
    samples: int = 0
    seconds: float = 0.0  # spent training, on the client
    bytes_down: int = 0
    bytes_up: int = 0
    loss: float | None = None  # mean training loss
    reason: str = ""
    notes: dict[str, float] = field(default_factory=dict)  # what parts say of it: a defence's suspicion, ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One aggregation step: who took part, what it cost, how good the model is now.

    `parent` and `model` are SHA-256 digests of the models before and after, so that rounds form a chain.
    """

    number: int  # from 1
    turns: tuple[Turn, ...]  # of the whole cohort, in its order
    started: float = 0.0  # seconds since 1970
    seconds: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)  # of the new model on the global test set
    notes: dict[str, float] = field(default_factory=dict)  # what parts say of the round: privacy spent, clip norm, ...
    parent: str = ""
    model: str = ""

    @property
    def cohort(self) -> tuple[int, ...]:
        """The chosen clients."""
        return tuple(turn.client for turn in self.turns)

    @property
    def accepted(self) -> tuple[int, ...]:
        """The clients whose updates make the aggregate."""
        return tuple(turn.client for turn in self.turns if turn.outcome is Outcome.ACCEPTED)

    @property
    def bytes_down(self) -> int:
        """Bytes sent to clients."""
        return sum(turn.bytes_down for turn in self.turns)

    @property
    def bytes_up(self) -> int:
        """Bytes that clients sent."""
        return sum(turn.bytes_up for turn in self.turns)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRound(Record):
    """A round as the control plane remembers it. Its id is `<run>.<number>`: posted twice, it is kept once."""

    run: str
    number: int
    round: Round


ROUNDS = Kind("round", RunRound, index=("run", "number"), unique=("run", "number"))
