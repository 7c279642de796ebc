"""The words that every client has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nexus.federate.core.analytics.union import Union


@dataclass(frozen=True)
class Intersection(Union):
    """Words of all clients that answered. The server's sums also hold the others, with how many have them."""

    def chosen(self, found: Mapping[str, float], clients: int) -> Mapping[str, float]:
        return {word: count for word, count in found.items() if count >= clients}
