"""What each client of a federated run did over all rounds, for the page's table. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nexus.federate.model import Outcome, Round, Turn

CONTRIBUTION, TRUST = "contribution", "trust"  # the notes on a turn that have columns of their own


@dataclass(frozen=True, slots=True)
class Silo:
    """One client's turns, summed up."""

    client: int
    chosen: int
    trained: int
    dropped: int
    refused: int
    samples: int  # of its newest turn that counts
    seconds: float  # in the mean, of a turn that counts
    bytes_up: int
    contribution: float | None  # the sum of its rounds' shares; None: nobody measured it
    suspicion: float | None  # in the mean, from 0 (trusted) to 1 (left out); None: no defence looked
    reason: str  # why its newest turn that counts not does not


def silos(rounds: Sequence[Round]) -> list[Silo]:
    """The clients, in order of their numbers."""
    turns: dict[int, list[Turn]] = {}
    for one in sorted(rounds, key=lambda one: one.number):
        for turn in one.turns:
            turns.setdefault(turn.client, []).append(turn)
    return [_silo(client, turns[client]) for client in sorted(turns)]


def _silo(client: int, turns: Sequence[Turn]) -> Silo:
    good = [turn for turn in turns if turn.outcome is Outcome.ACCEPTED]
    bad = [turn for turn in turns if turn.outcome is not Outcome.ACCEPTED]
    shares = [turn.notes[CONTRIBUTION] for turn in turns if CONTRIBUTION in turn.notes]
    trust = [turn.notes[TRUST] for turn in turns if TRUST in turn.notes]
    return Silo(
        client=client,
        chosen=len(turns),
        trained=len(good),
        dropped=sum(turn.outcome is Outcome.DROPPED for turn in bad),
        refused=sum(turn.outcome is Outcome.REFUSED for turn in bad),
        samples=good[-1].samples if good else 0,
        seconds=sum(turn.seconds for turn in good) / len(good) if good else 0.0,
        bytes_up=sum(turn.bytes_up for turn in turns),
        contribution=sum(shares) if shares else None,
        suspicion=min(1.0, max(0.0, 1 - sum(trust) / len(trust))) if trust else None,
        reason=bad[-1].reason if bad else "",
    )
