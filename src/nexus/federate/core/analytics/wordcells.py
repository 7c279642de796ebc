"""Words in sums: each goes to a cell by a salted hash, and its bytes are added there.

A cell that all its clients fill with one word gives that word back: the sum of bytes over the count. Where two words
meet the bytes make no sense, which shows; another round has another salt, and they part. The sums tell how often each
word is there and never by whom; a server that sees single updates sees each client's words.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, ClassVar

from nexus.federate.core.algorithm import State, Vector
from nexus.federate.core.analytics.query import Query
from nexus.kernel.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

WORD_B = 32  # of a word in UTF-8
_SEEN = "query.seen"


@dataclass(frozen=True)
class WordCells(Query):
    """`cells` cells, in `steps` rounds of one salt each. Take at least as many cells as there are different words."""

    words: ClassVar[bool] = True

    cells: int = 1024
    steps: int = 4

    def __post_init__(self) -> None:
        """Raises UsageError."""
        super().__post_init__()
        if self.cells < 1 or self.steps < 1:
            raise UsageError("cells and steps must be 1 or more", hint="1024 cells for about as many words.")

    @property
    def length(self) -> int:
        return self.cells * (WORD_B + 1)

    @property
    def rounds(self) -> int:
        return self.steps

    @abstractmethod
    def counts(self, words: Mapping[bytes, int]) -> Mapping[bytes, int]:
        """How much a client says of each of its words."""

    @abstractmethod
    def chosen(self, found: Mapping[str, float], clients: int) -> Mapping[str, float]:
        """Which words are the answer."""

    def count(self, values: Any, asked: Vector, number: int, dice: Any) -> Vector:
        import numpy as np

        table = np.zeros((self.cells, WORD_B + 1))
        for word, times in self.counts(counted(values)).items():
            row = table[cell_of(word, number, self.cells)]
            row[0] += times
            row[1:] += times * np.frombuffer(word, np.uint8).astype(np.float64)
        return table.reshape(-1)

    def conclude(self, state: State, sums: Vector, clients: int) -> State:
        import numpy as np

        seen = np.concatenate([state.extra.get(_SEEN, sums[:0]), sums, [clients]]).astype(np.float32)
        return replace(state, extra=state.extra | {_SEEN: seen})

    def answer(self, state: State) -> dict[str, float]:
        tables = state.extra[_SEEN].reshape(-1, self.length + 1)
        found: dict[str, float] = {}
        for number, table in enumerate(tables, 1):
            found = self._read(table[:-1].reshape(self.cells, WORD_B + 1), number) | found
        unread = self._unread(tables[-1][:-1].reshape(self.cells, WORD_B + 1), len(tables), found)
        chosen = self.chosen(found, round(float(tables[-1][-1])))
        best = sorted(chosen.items(), key=lambda one: (-one[1], one[0]))
        return {"different": float(len(best)), "unread": unread, **{f"value/{word}": count for word, count in best}}

    def _read(self, table: Any, number: int) -> dict[str, float]:
        """The words that stand alone in their cells."""
        import numpy as np

        found = {}
        for at in np.flatnonzero(table[:, 0] > 0.5).tolist():
            codes = table[at, 1:] / table[at, 0]
            whole = np.rint(codes)
            word = whole.clip(0, 255).astype(np.uint8).tobytes()
            if np.abs(codes - whole).max() < 0.01 and cell_of(word, number, self.cells) == at:
                found[word.rstrip(b"\0").decode("utf-8", "replace")] = float(np.rint(table[at, 0]))
        return found

    def _unread(self, table: Any, number: int, found: Mapping[str, float]) -> float:
        """How many cells hold more than the words that were found."""
        left = table[:, 0].copy()
        for word, count in found.items():
            left[cell_of(word.encode().ljust(WORD_B, b"\0"), number, self.cells)] -= count
        return float((left > 0.5).sum())


def counted(values: Any) -> dict[bytes, int]:
    """How often each word is there, of rows of bytes."""
    import numpy as np

    words, times = np.unique(values.astype(np.uint8), axis=0, return_counts=True)
    return {word.tobytes(): int(count) for word, count in zip(words, times, strict=True)}


def cell_of(word: bytes, salt: int, cells: int) -> int:
    """Where a word goes."""
    return hashed(word, salt) % cells


def hashed(word: bytes, salt: int) -> int:
    """64 bits of a word."""
    return int.from_bytes(blake2b(word, digest_size=8, salt=salt.to_bytes(8, "big")).digest(), "big")
