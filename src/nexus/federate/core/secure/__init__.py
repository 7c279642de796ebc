"""How a sum is made of which nobody sees a part: one line here and one file for each protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus.kernel.registry import Registry

if TYPE_CHECKING:
    from nexus.federate.core.secure.scheme import Scheme

SECURE: Registry[type[Scheme]] = Registry(
    "nexus.secure_aggregation",
    {
        "secagg": "nexus.federate.core.secure.secagg:SecAgg",
        "secagg_plus": "nexus.federate.core.secure.secagg:SecAggPlus",
        "lightsecagg": "nexus.federate.core.secure.lightsecagg:LightSecAgg",
        "ckks": "nexus.federate.core.secure.ckks:Ckks",
    },
)
