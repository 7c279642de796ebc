"""What clients keep for themselves: one line here and one file for each way."""

from __future__ import annotations

from nexus.federate.core.layer import Layer
from nexus.kernel.registry import Registry

PERSONAL: Registry[type[Layer]] = Registry(
    "nexus.personal",
    {},
)
