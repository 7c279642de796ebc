"""Nexus launches any AI job anywhere.

Inside a job: `nexus.log`, `nexus.param`, `nexus.artifact`, `nexus.finish`.
Outside: `nexus.Client`, `nexus.AsyncClient`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nexus.app.client import Client as Client
    from nexus.app.client_async import AsyncClient as AsyncClient
    from nexus.track.sdk import artifact as artifact
    from nexus.track.sdk import finish as finish
    from nexus.track.sdk import log as log
    from nexus.track.sdk import param as param

_LAZY = {
    "AsyncClient": "nexus.app.client_async",
    "Client": "nexus.app.client",
    "artifact": "nexus.track.sdk",
    "finish": "nexus.track.sdk",
    "log": "nexus.track.sdk",
    "param": "nexus.track.sdk",
}


def __getattr__(name: str) -> Any:
    """Import on first use: a job that only logs needs nothing but the standard library."""
    if name not in _LAZY:
        raise AttributeError(f"module 'nexus' has no attribute {name!r}")
    from importlib import import_module  # noqa: TID251 (the package's own door, with a literal table)

    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value
