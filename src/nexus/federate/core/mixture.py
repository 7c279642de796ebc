"""What defences are made of: a weighted sum of updates, who is far from whom, and what is said of each client."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nexus.federate.core.defence import Combined
from nexus.federate.core.stack import Stack
from nexus.federate.core.total import Total
from nexus.kernel.errors import UsageError

Numbers = NDArray[np.float64]
SKETCH = 4096  # numbers that stand for one update where many have to be remembered


def chosen(stack: Stack, keep: Sequence[int]) -> Combined:
    """The plain mean of the updates at these positions; the others are rejected."""
    trust = np.zeros(len(stack))
    trust[list(keep)] = 1.0
    return Combined(stack.total(trust), notes=told(stack, trust))


def weighted(stack: Stack, trust: Numbers) -> Combined:
    """The mean of the updates by the algorithm's weights times `trust`. Without any trust the model stays."""
    return scaled(stack, trust, float(stack.weights @ trust), told(stack, trust))


def scaled(stack: Stack, factors: Numbers, weight: float, notes: dict[int, dict[str, float]]) -> Combined:
    """The sum of weights times `factors` times updates, as a mean over `weight`."""
    found = stack.total(stack.weights * factors)
    return Combined(Total.of(found.sums, weight=weight or 1.0, count=len(stack)), notes=notes)


def told(stack: Stack, trust: Numbers) -> dict[int, dict[str, float]]:
    """`trust` of each client, 1 for the most trusted, and `rejected` for those with none."""
    most = float(trust.max(initial=0.0)) or 1.0
    return {
        client: {"trust": float(value / most), "rejected": float(value <= 0)}
        for client, value in zip(stack.clients, trust, strict=True)
    }


def clip_factors(norms: Numbers, limit: float) -> Numbers:
    """What each vector is multiplied with so that none is longer than `limit`; 0: than the median of all."""
    most = limit or float(np.median(norms))
    return np.minimum(1.0, most / np.maximum(norms, 1e-12))


def cosines(gram: Numbers) -> Numbers:
    """The cosines of all pairs, from their inner products; a zero vector has none with anybody."""
    norms = np.sqrt(np.maximum(np.diag(gram), 0.0))
    return np.asarray(gram / np.maximum(np.outer(norms, norms), 1e-24))


def sketches(stack: Stack, name: str = "delta") -> NDArray[np.float32]:
    """Clients x SKETCH: exact for short vectors, else a count sketch that keeps inner products.

    Charikar, Chen & Farach-Colton, Finding Frequent Items in Data Streams, 2002. Signs are the same in every round.
    """
    length = stack.lengths[name]
    if length <= SKETCH:
        return np.concatenate([part for _, part in stack.chunks(name)], axis=1)
    found = np.zeros((len(stack), SKETCH), np.float32)
    dice = np.random.default_rng(0)
    for _, part in stack.chunks(name):
        signed = part * (dice.integers(0, 2, part.shape[1], dtype=np.int8) * 2 - 1).astype(np.float32)
        rest = -part.shape[1] % SKETCH
        padded = np.pad(signed, ((0, 0), (0, rest)))
        found += padded.reshape(len(stack), -1, SKETCH).sum(axis=1)
    return found


def sketch_length(sends: dict[str, int]) -> int:
    """How long the sketch of an update is."""
    return min(sends["delta"], SKETCH)


def enough(stack: Stack, needed: int, name: str) -> None:
    """Raises UsageError when there are fewer updates than the defence is defined for."""
    if len(stack) < needed:
        raise UsageError(
            f"{name} needs {needed} updates or more, and there are {len(stack)}",
            hint="Choose a larger cohort, or say that fewer clients are bad: --set defence.bad=0.1",
        )


def check_bad(bad: float) -> None:
    """Raises UsageError for a part that no defence can hold against."""
    if not 0 <= bad < 0.5:
        raise UsageError("defence.bad must be from 0 to below 0.5", hint="0.2: a fifth of a cohort may be bad.")
