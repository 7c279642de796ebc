"""Who takes part in a round: one line here and one file for each way to choose."""

from __future__ import annotations

from nexus.federate.core.sampler import Sampler
from nexus.kernel.registry import Registry

SAMPLERS: Registry[type[Sampler]] = Registry(
    "nexus.samplers",
    {
        "available": "nexus.federate.core.samplers.available:Available",
        "importance": "nexus.federate.core.samplers.importance:Importance",
        "poisson": "nexus.federate.core.samplers.poisson:Poisson",
        "power_of_choice": "nexus.federate.core.samplers.power_of_choice:PowerOfChoice",
        "round_robin": "nexus.federate.core.samplers.round_robin:RoundRobin",
        "uniform": "nexus.federate.core.samplers.uniform:Uniform",
    },
)
