"""Server-sent events, read: what `infra.web.sse` wrote."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SentEvent:
    """One event; `data` is its JSON."""

    kind: str
    id: str
    data: str


def read_events(lines: Iterable[str]) -> Iterator[SentEvent]:
    """Whole events only: one that a broken connection cut is not given, so its id is not taken for seen."""
    known: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if name:
            known[name] = value.removeprefix(" ")
        elif not line and "data" in known:
            yield SentEvent(known.get("event", "message"), known.get("id", ""), known["data"])
            known = {}
