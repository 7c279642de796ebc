"""Fewer bytes for an update: one line here and one file for each way."""

from __future__ import annotations

from nexus.federate.core.layer import Layer
from nexus.kernel.registry import Registry

COMPRESSIONS: Registry[type[Layer]] = Registry(
    "nexus.compression",
    {
        "top_k": "nexus.federate.core.compression.top_k:TopK",
    },
)
