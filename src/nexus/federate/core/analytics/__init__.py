"""Questions to data that stays where it is: one line here and one file for each."""

from __future__ import annotations

from nexus.federate.core.analytics.query import Query
from nexus.kernel.registry import Registry

QUERIES: Registry[type[Query]] = Registry(
    "nexus.queries",
    {
        "cardinality": "nexus.federate.core.analytics.cardinality:Cardinality",
        "frequency": "nexus.federate.core.analytics.frequency:Frequency",
        "heavy_hitters": "nexus.federate.core.analytics.heavy_hitters:HeavyHitters",
        "histogram": "nexus.federate.core.analytics.histogram:Histogram",
        "intersection": "nexus.federate.core.analytics.intersection:Intersection",
        "mean": "nexus.federate.core.analytics.mean:Mean",
        "quantile": "nexus.federate.core.analytics.quantile:Quantile",
        "union": "nexus.federate.core.analytics.union:Union",
    },
)
