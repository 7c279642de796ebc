"""The rounds' chain: each names the model it started from and the model it made, by digest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

from nexus.federate.core.algorithm import State
from nexus.federate.core.composition import Composition
from nexus.federate.core.stack import Stack
from nexus.federate.core.total import Array, Total
from nexus.federate.model import Round, Turn
from nexus.kernel.errors import JobError


def digest(model: Array) -> str:
    """SHA-256 of the model's bytes."""
    return sha256(model.data).hexdigest()


def close_round(
    composition: Composition, state: State, came: Total | Stack, turns: Sequence[Turn], *, started: float
) -> tuple[State, Round]:
    """The state and the record after a round.

    Raises JobError when the new model is not finite, UsageError when a defence cannot work with these updates.
    """
    remembered, total, turns = composition.totalled(state, came, turns)
    following = composition.algorithm.advance(remembered, total)
    if not _finite(following.model):
        raise JobError(
            f"round {following.number} made a model with values that are not finite",
            hint="Training diverged: lower local.lr, or the algorithm's lr.",
        )
    record = Round(
        number=following.number,
        turns=tuple(turns),
        started=started,
        notes=composition.algorithm.notes(following),
        parent=digest(state.model),
        model=digest(following.model),
    )
    return following, record


def finished(record: Round, seconds: float, metrics: dict[str, float]) -> Round:
    """The record with what is known only at the end of its round."""
    return replace(record, seconds=seconds, metrics=metrics)


def _finite(model: Array) -> bool:
    # a sum is finite only if every value is (or it overflows, which float64 prevents)
    return bool(abs(float(model.sum(dtype="float64"))) < float("inf"))
