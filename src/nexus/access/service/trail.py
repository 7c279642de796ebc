"""The events of Access: what was done, by whom, from where, and with which token. Never a secret."""

from __future__ import annotations

from typing import Any

from nexus.kernel.events import Event
from nexus.kernel.identity import Principal


def event(kind: str, subject: str, project: str, now: float, by: Principal, /, **data: Any) -> Event:
    """What `by` has done to `subject`."""
    given = {name: value for name, value in data.items() if value not in {None, ""}}
    proof = {"from": by.address, "with": by.token}
    return Event(kind, subject, project, now, by.subject, given | {name: said for name, said in proof.items() if said})
