"""The rounds' chain: each names the model it started from and the model it made, by digest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    return following, recorded(composition, state, following, turns, started=started)


def recorded(
    composition: Composition,
    state: State,
    following: State,
    turns: Sequence[Turn],
    *,
    started: float,
    notes: Mapping[str, float] | None = None,
) -> Round:
    """The record of the round that led from a state to the following. Raises JobError when that is not finite."""
    if not _finite(following.model):
        raise JobError(
            f"round {following.number} made a model with values that are not finite",
            hint="Training diverged: lower local.lr, or the algorithm's lr.",
        )
    return Round(
        number=following.number,
        turns=tuple(turns),
        started=started,
        notes=composition.algorithm.notes(following) | dict(notes or {}),
        parent=digest(state.model),
        model=digest(following.model),
    )


def finished(record: Round, seconds: float, metrics: dict[str, float]) -> Round:
    """The record with what is known only at the end of its round."""
    return replace(record, seconds=seconds, metrics=metrics)


def _finite(model: Array) -> bool:
    # a sum is finite only if every value is (or it overflows, which float64 prevents)
    return bool(abs(float(model.sum(dtype="float64"))) < float("inf"))
