"""All that a federated server and its hosts say to each other, over HTTP/1.1 in TLS 1.3, each with a certificate.

    POST /v1/join                                                Join -> Welcome
    GET  /v1/work                                                Work; waits for some, WAIT_S at most
    POST /v1/alive                                               "I am still training"
    GET  /v1/rounds/{n}/plan?offset=                             a chunk of a frame: what the round's clients start from
    PUT  /v1/rounds/{n}/updates/{client}?check=&size=&offset=    a chunk of a frame with `UpdateHead` -> Receipt
    GET  /v1/rounds/{n}/sums/{attempt}/{phase}/{client}          what a step of a secure sum asks that client
    PUT  /v1/rounds/{n}/sums/{attempt}/{phase}/{client}          its answer, or nothing: it cannot go on -> Receipt

Who a host is, its certificate says (`core.identity`); it speaks for several clients, and for no other's.
A frame is a safetensors file; its metadata has one key, `nexus`, with the JSON of its head. Nothing is ever unpickled.
Every message may come twice, late, or not at all: an update's name is (round, client), and counts once. After a cut,
a file goes on where it was: a receipt says where that is. `check` is the file's checksum (`adapters.chunks`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from nexus.federate.model import Settings

HEAD = "nexus"  # the key of a frame's head in its metadata
WAIT_S = 10.0  # how long a question for work may wait for its answer
VERSION = 2
HEAD_MAX_B = 64 * 1024  # of a frame beside its vectors


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """A host says for whom it speaks. `parameters` proves that both sides mean the same model."""

    clients: tuple[int, ...]
    parameters: int
    voucher: str = ""  # what others may see of this host, to believe its signatures
    version: int = VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The server's settings are everybody's."""

    settings: Settings


class WorkState(StrEnum):
    """What there is to do."""

    WAIT = "wait"  # nothing now
    TRAIN = "train"
    SUM = "sum"  # take the next step of a secure sum: `secure` says which
    DONE = "done"  # every round is done; the host may leave
    FAILED = "failed"  # the run has failed; `reason` says why


@dataclass(frozen=True, slots=True, kw_only=True)
class SecureStep:
    """Which step of which sum (see `core.secure.party`). A server that was started anew makes another attempt."""

    phase: str
    attempt: int
    members: tuple[int, ...]
    vouchers: dict[int, str]  # what says whose signatures are which member's


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a host should do now. The same question may get the same answer again."""

    state: WorkState
    number: int = 0  # the round
    clients: tuple[int, ...] = ()  # the host's clients of the cohort whose updates are not here yet
    model: str = ""  # digest of the model that the round starts from
    secure: SecureStep | None = None
    size_b: int = 0  # of the plan's frame
    check: str = ""  # its checksum
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """Which update is on its way. Its checksum is part of its name: half of one is never completed by another."""

    number: int
    client: int
    check: str
    size: int


class ReceiptState(StrEnum):
    """What became of an update."""

    PARTIAL = "partial"  # go on at `held`
    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"  # this client's update of this round was accepted before; that one counts
    LATE = "late"  # its round is over
    REFUSED = "refused"  # it may not be counted; sending it again will not help


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The answer to an update. After ACCEPTED it is on the server's disk, and survives its end."""

    state: ReceiptState
    reason: str = ""
    held: int = 0  # bytes that are here of an update on its way

    @property
    def counted(self) -> bool:
        """Whether the aggregate has, or will have, an update of this client."""
        return self.state in {ReceiptState.ACCEPTED, ReceiptState.DUPLICATE}


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRequest:
    """A task asks the control plane to certify its key."""

    public_key: str  # Ed25519, as PEM


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What the control plane says of the key's holder."""

    authority: str  # the certificate of the run's authority, as PEM
    certificate: str  # as PEM
    holder: str  # `role/index`, as the certificate names it
