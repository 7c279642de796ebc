"""What bad clients do, to try defences against: one line here and one file for each attack."""

from __future__ import annotations

from nexus.federate.core.layer import Layer
from nexus.kernel.registry import Registry

ATTACKS: Registry[type[Layer]] = Registry(
    "nexus.attacks",
    {
        "sign_flip": "nexus.federate.core.attacks.sign_flip:SignFlip",
    },
)
