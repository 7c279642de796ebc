"""Who takes part in a round: one line here and one file for each way to choose."""

from __future__ import annotations

from nexus.federate.core.sampler import Sampler
from nexus.kernel.registry import Registry

SAMPLERS: Registry[type[Sampler]] = Registry(
    "nexus.samplers",
    {
        "uniform": "nexus.federate.core.samplers.uniform:Uniform",
    },
)
