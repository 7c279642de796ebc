"""What happened, once: the same event is the log line, the audit row, the activity feed and the webhook."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """`kind` is dotted, noun first (`run.queued`, `node.joined`); `subject` is the id of what it happened to."""

    kind: str
    subject: str
    project: str
    at: float
    actor: str = "nexus"
    data: dict[str, Any] = field(default_factory=dict)
    seq: int = 0  # given by the store; grows by at least one
