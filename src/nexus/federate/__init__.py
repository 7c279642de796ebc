"""Federate: learn together from data that stays where it is.

`nexus.federate.Task` is what a person writes; the same file runs as `nexus federate simulate app.py` and as a run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nexus.federate import data as data
    from nexus.federate.core.ask import ask as ask
    from nexus.federate.core.partition import deal as deal
    from nexus.federate.core.partition import dirichlet as dirichlet
    from nexus.federate.core.partition import iid as iid
    from nexus.federate.core.partition import shards as shards
    from nexus.federate.core.shift import shift as shift
    from nexus.federate.core.task import FederatedData as FederatedData
    from nexus.federate.core.task import Task as Task
    from nexus.federate.core.task import accuracy as accuracy
    from nexus.federate.model import Local as Local
    from nexus.federate.model import Part as Part
    from nexus.federate.model import Settings as Settings

_LAZY = {
    "FederatedData": "nexus.federate.core.task",
    "Local": "nexus.federate.model",
    "Part": "nexus.federate.model",
    "Settings": "nexus.federate.model",
    "Task": "nexus.federate.core.task",
    "ask": "nexus.federate.core.ask",
    "accuracy": "nexus.federate.core.task",
    "deal": "nexus.federate.core.partition",
    "dirichlet": "nexus.federate.core.partition",
    "iid": "nexus.federate.core.partition",
    "shards": "nexus.federate.core.partition",
    "shift": "nexus.federate.core.shift",
}


def __getattr__(name: str) -> Any:
    """Import on first use: reading a job file needs neither numpy nor torch."""
    if name not in _LAZY and name != "data":
        raise AttributeError(f"module 'nexus.federate' has no attribute {name!r}")
    from importlib import import_module  # noqa: TID251 (the package's own door, with a literal table)

    value = import_module("nexus.federate.data") if name == "data" else getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value
