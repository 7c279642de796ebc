"""The ways to deal a data set out to clients: one line here and one file for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nexus.kernel.registry import Registry

PARTITIONERS: Registry[Callable[..., Any]] = Registry(
    "nexus.partitioners",
    {
        "by_key": "nexus.federate.core.partitioners.by_key:by_key",
        "dirichlet": "nexus.federate.core.partitioners.dirichlet:dirichlet",
        "iid": "nexus.federate.core.partitioners.iid:iid",
        "label_count": "nexus.federate.core.partitioners.label_count:label_count",
        "mixture": "nexus.federate.core.partitioners.mixture:mixture",
        "power_law": "nexus.federate.core.partitioners.power_law:power_law",
        "quantity": "nexus.federate.core.partitioners.quantity:quantity",
        "shards": "nexus.federate.core.partitioners.shards:shards",
    },
)
