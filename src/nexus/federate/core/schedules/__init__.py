"""How rounds follow each other: one line here for each way."""

from __future__ import annotations

from nexus.federate.core.schedule import Schedule
from nexus.kernel.registry import Registry

SCHEDULES: Registry[type[Schedule]] = Registry(
    "nexus.schedules",
    {
        "sync": "nexus.federate.core.schedules.sync:Sync",
        "buffered": "nexus.federate.core.schedules.buffered:Buffered",
        "hierarchical": "nexus.federate.core.schedules.hierarchical:Hierarchical",
        "ring": "nexus.federate.core.schedules.gossip:Ring",
        "random": "nexus.federate.core.schedules.gossip:RandomGraph",
        "complete": "nexus.federate.core.schedules.gossip:Complete",
        "pushsum": "nexus.federate.core.schedules.gossip:PushSum",
    },
)
