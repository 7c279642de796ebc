"""What past rounds tell of each client."""

from __future__ import annotations

from collections.abc import Sequence

from nexus.federate.model import Outcome, Round

_BACK = 200  # rounds: longer than the longest wait


def losses(past: Sequence[Round], memory: int) -> dict[int, float]:
    """The last finite training loss that each client told, at most `memory` rounds ago."""
    found: dict[int, float] = {}
    for record in reversed(past[-memory:]):
        for turn in record.turns:
            if turn.loss is not None and turn.outcome is Outcome.ACCEPTED and turn.loss - turn.loss == 0:
                found.setdefault(turn.client, turn.loss)
    return found


def silent_since(past: Sequence[Round]) -> dict[int, tuple[int, int]]:
    """How often in a row each client was dropped lately, and in which round last; those that answered are left out."""
    drops: dict[int, tuple[int, int]] = {}
    settled: set[int] = set()
    for record in reversed(past[-_BACK:]):
        for turn in record.turns:
            if turn.client in settled:
                continue
            if turn.outcome is Outcome.DROPPED:
                count, last = drops.get(turn.client, (0, record.number))
                drops[turn.client] = (count + 1, last)
            else:
                settled.add(turn.client)
    return drops
