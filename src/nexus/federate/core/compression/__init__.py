"""Fewer bytes for an update: one line here and one file for each way."""

from __future__ import annotations

from nexus.federate.core.layer import Layer
from nexus.kernel.registry import Registry

COMPRESSIONS: Registry[type[Layer]] = Registry(
    "nexus.compression",
    {
        "qsgd": "nexus.federate.core.compression.qsgd:Qsgd",
        "random_k": "nexus.federate.core.compression.random_k:RandomK",
        "sign": "nexus.federate.core.compression.sign:Sign",
        "top_k": "nexus.federate.core.compression.top_k:TopK",
    },
)
