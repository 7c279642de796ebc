"""The algorithms: both halves of each in one file, one line here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields

from nexus.federate.core.algorithm import Algorithm
from nexus.kernel.errors import UsageError
from nexus.kernel.registry import Registry

ALGORITHMS: Registry[type[Algorithm]] = Registry(
    "nexus.algorithms",
    {
        "fedavg": "nexus.federate.core.algorithms.fedavg:FedAvg",
        "fedprox": "nexus.federate.core.algorithms.fedprox:FedProx",
        "scaffold": "nexus.federate.core.algorithms.scaffold:Scaffold",
        "fedadam": "nexus.federate.core.algorithms.fedopt:FedAdam",
    },
)


def options_of(name: str) -> dict[str, float]:
    """The options of an algorithm with their defaults. Raises NotFoundError."""
    made = ALGORITHMS.get(name)()
    return {f.name: getattr(made, f.name) for f in fields(made)}  # type: ignore[arg-type]


def build(name: str, options: Mapping[str, float]) -> Algorithm:
    """The algorithm with its options. Raises NotFoundError, and UsageError for an unknown or impossible option."""
    kind = ALGORITHMS.get(name)
    known = options_of(name)
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1)
            hint = f"Did you mean {near[0]}? " if near else ""
            has = ", ".join(f"{k} (default {v:g})" for k, v in known.items()) or "none"
            raise UsageError(f"{name} has no option {option!r}", hint=f"{hint}It has: {has}.")
    return kind(**{option: float(value) for option, value in options.items()})
