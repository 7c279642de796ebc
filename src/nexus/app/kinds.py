"""Every kind of record there is: the schema comes from this list, and a test holds the migrations against it."""

from __future__ import annotations

from typing import Any

from nexus.access.model import TOKENS
from nexus.federate.model import ROUNDS
from nexus.kernel.records import Kind
from nexus.launch.model import NODES, RUNS, TASKS

KINDS: tuple[Kind[Any], ...] = (TOKENS, RUNS, TASKS, NODES, ROUNDS)
