"""What bad clients do, to try defences against: one line here and one file for each attack."""

from __future__ import annotations

from nexus.federate.core.layer import Layer
from nexus.kernel.registry import Registry

ATTACKS: Registry[type[Layer]] = Registry(
    "nexus.attacks",
    {
        "sign_flip": "nexus.federate.core.attacks.sign_flip:SignFlip",
        "random": "nexus.federate.core.attacks.random:Random",
        "zero": "nexus.federate.core.attacks.zero:Zero",
        "label_flip": "nexus.federate.core.attacks.label_flip:LabelFlip",
        "replacement": "nexus.federate.core.attacks.replacement:Replacement",
        "lie": "nexus.federate.core.attacks.lie:Lie",
        "ipm": "nexus.federate.core.attacks.ipm:Ipm",
        "backdoor": "nexus.federate.core.attacks.backdoor:Backdoor",
        "edge_case": "nexus.federate.core.attacks.edge_case:EdgeCase",
        "lazy": "nexus.federate.core.attacks.lazy:Lazy",
    },
)
