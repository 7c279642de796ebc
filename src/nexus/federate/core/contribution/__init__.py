"""What each client is worth to the rest: one line here and one file for each way to find out.

All look at models on the server's own samples (`Task.root`), before any defence.
"""

from __future__ import annotations

from nexus.federate.core.contribution.measure import Measure
from nexus.kernel.registry import Registry

CONTRIBUTIONS: Registry[type[Measure]] = Registry(
    "nexus.contributions",
    {
        "leave_one_out": "nexus.federate.core.contribution.leave_one_out:LeaveOneOut",
        "gtg_shapley": "nexus.federate.core.contribution.gtg_shapley:GtgShapley",
        "mr_shapley": "nexus.federate.core.contribution.mr_shapley:MrShapley",
    },
)
