"""How many updates become one where some may be bad: one line here and one file for each."""

from __future__ import annotations

from nexus.federate.core.defence import Defence
from nexus.kernel.registry import Registry

DEFENCES: Registry[type[Defence]] = Registry(
    "nexus.defences",
    {
        "median": "nexus.federate.core.defences.median:Median",
    },
)
