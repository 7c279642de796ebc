"""What happened, once: the same event is the log line, the audit row, the activity feed and the webhook.

Events form a chain: each carries the digest of itself and of the one before it, so that one which was changed, left out
or slipped in later breaks the chain from there on.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import msgspec


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
    digest: str = field(default="", compare=False)  # given by the store: `chain` of the one before and this one


def chain(previous: str, event: Event) -> str:
    """The digest of an event that follows the one with the digest `previous`; the first follows the empty one."""
    said = [previous, event.kind, event.subject, event.project, float(event.at), event.actor, event.data]
    return hashlib.sha256(msgspec.json.encode(said, order="deterministic")).hexdigest()
