"""Every word that some client has, and how many have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nexus.federate.core.analytics.wordcells import WordCells
from nexus.kernel.errors import UsageError


@dataclass(frozen=True)
class Union(WordCells):
    """Words that `least` clients have at least: with 2 or more, nobody's own word is told."""

    least: int = 1

    def __post_init__(self) -> None:
        """Raises UsageError."""
        super().__post_init__()
        if self.least < 1:
            raise UsageError("least must be 1 or more", hint="2: only words that several have.")

    def counts(self, words: Mapping[bytes, int]) -> Mapping[bytes, int]:
        return dict.fromkeys(words, 1)

    def chosen(self, found: Mapping[str, float], clients: int) -> Mapping[str, float]:
        return {word: count for word, count in found.items() if count >= self.least}
