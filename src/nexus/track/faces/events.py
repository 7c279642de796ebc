"""Server-sent events, read: what `infra.web.sse` wrote."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SentEvent:
    """One event; `data` is its JSON."""

    kind: str
    id: str
    data: str


class EventReader:
    """Whole events only: one that a broken connection cut is not given, so its id is not taken for seen."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def read(self, line: str) -> SentEvent | None:
        """The event that this line completes."""
        name, _, value = line.partition(":")
        if name:
            self._known[name] = value.removeprefix(" ")
        elif not line and "data" in self._known:
            known, self._known = self._known, {}
            return SentEvent(known.get("event", "message"), known.get("id", ""), known["data"])
        return None
