"""Every kind of record there is: the schema comes from this list, and a test holds the migrations against it."""

from __future__ import annotations

from typing import Any

from nexus.access.model import MEMBERSHIPS, PROJECTS, SECRETS, TOKENS, USERS
from nexus.deploy.model import ENDPOINTS
from nexus.federate.model import ROUNDS
from nexus.kernel.records import Kind
from nexus.launch.model import FLEETS, MACHINES, NODES, QUOTAS, RUNS, TASKS, UPKEEPS, USAGES
from nexus.track.model import ARTIFACTS, MODELS, STREAMS, UPLOADS, VERSIONS

KINDS: tuple[Kind[Any], ...] = (
    TOKENS,
    PROJECTS,
    USERS,
    MEMBERSHIPS,
    SECRETS,
    RUNS,
    TASKS,
    NODES,
    QUOTAS,
    USAGES,
    FLEETS,
    MACHINES,
    UPKEEPS,
    STREAMS,
    ARTIFACTS,
    MODELS,
    VERSIONS,
    UPLOADS,
    ROUNDS,
    ENDPOINTS,
)
