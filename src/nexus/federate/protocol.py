"""All that a federated server and its hosts say to each other, over HTTP/1.1. A host speaks for several clients.

    POST /v1/join                          Join -> Welcome
    GET  /v1/work?host=..                  Work; waits for some, WAIT_S at most
    POST /v1/alive?host=..                 "I am still training"
    GET  /v1/rounds/{n}/plan               a frame: what every client of the round starts from
    PUT  /v1/rounds/{n}/updates/{client}   a frame with `UpdateHead` -> Receipt

A frame is a safetensors file; its metadata has one key, `nexus`, with the JSON of its head. Nothing is ever unpickled.
Every message may come twice, late, or not at all: an update's name is (round, client), and counts once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from nexus.federate.model import Settings

HEAD = "nexus"  # the key of a frame's head in its metadata
WAIT_S = 10.0  # how long a question for work may wait for its answer
HEAD_MAX_B = 64 * 1024  # of a frame beside its vectors


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """A host says who it is. `parameters` proves that both sides mean the same model."""

    host: int
    clients: tuple[int, ...]
    parameters: int
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The server's settings are everybody's."""

    settings: Settings


class WorkState(StrEnum):
    """What there is to do."""

    WAIT = "wait"  # nothing now
    TRAIN = "train"
    DONE = "done"  # every round is done; the host may leave
    FAILED = "failed"  # the run has failed; `reason` says why


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a host should do now. The same question may get the same answer again."""

    state: WorkState
    number: int = 0  # the round
    clients: tuple[int, ...] = ()  # the host's clients of the cohort whose updates are not here yet
    model: str = ""  # digest of the model that the round starts from
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanHead:
    """What a plan's frame says beside its vectors."""

    number: int
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateHead:
    """What an update's frame says beside its vectors."""

    number: int
    client: int
    model: str  # digest of the model it started from
    samples: int
    seconds: float
    loss: float | None


class ReceiptState(StrEnum):
    """What became of an update."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"  # this client's update of this round was accepted before; that one counts
    LATE = "late"  # its round is over
    REFUSED = "refused"  # it may not be counted; sending it again will not help


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The answer to an update. After ACCEPTED it is on the server's disk, and survives its end."""

    state: ReceiptState
    reason: str = ""

    @property
    def counted(self) -> bool:
        """Whether the aggregate has, or will have, an update of this client."""
        return self.state in {ReceiptState.ACCEPTED, ReceiptState.DUPLICATE}
