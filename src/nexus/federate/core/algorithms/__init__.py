"""The algorithms: both halves of each in one file, one line here."""

from __future__ import annotations

from collections.abc import Mapping

from nexus.federate.core.algorithm import Algorithm
from nexus.federate.core.options import make
from nexus.federate.core.options import options_of as options_of_class
from nexus.kernel.registry import Registry

ALGORITHMS: Registry[type[Algorithm]] = Registry(
    "nexus.algorithms",
    {
        "fedavg": "nexus.federate.core.algorithms.fedavg:FedAvg",
        "fedsgd": "nexus.federate.core.algorithms.fedsgd:FedSGD",
        "fedprox": "nexus.federate.core.algorithms.fedprox:FedProx",
        "scaffold": "nexus.federate.core.algorithms.scaffold:Scaffold",
        "fedavgm": "nexus.federate.core.algorithms.fedavgm:FedAvgM",
        "fedadam": "nexus.federate.core.algorithms.fedopt:FedAdam",
        "fedyogi": "nexus.federate.core.algorithms.fedopt:FedYogi",
        "fedadagrad": "nexus.federate.core.algorithms.fedopt:FedAdagrad",
        "fednova": "nexus.federate.core.algorithms.fednova:FedNova",
        "feddyn": "nexus.federate.core.algorithms.feddyn:FedDyn",
        "mime": "nexus.federate.core.algorithms.mime:Mime",
        "mimelite": "nexus.federate.core.algorithms.mime:MimeLite",
        "qfedavg": "nexus.federate.core.algorithms.qfedavg:QFedAvg",
    },
)


def options_of(name: str) -> dict[str, float]:
    """The options of an algorithm with their defaults. Raises NotFoundError."""
    return options_of_class(ALGORITHMS.get(name))


def build(name: str, options: Mapping[str, float]) -> Algorithm:
    """The algorithm with its options. Raises NotFoundError, and UsageError for an unknown or impossible option."""
    made: Algorithm = make(ALGORITHMS.get(name), name, options)
    return made
