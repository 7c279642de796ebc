"""The words that many clients have, found letter by letter, with differential privacy from sampling alone.

Zhu et al., Federated Heavy Hitters Discovery with Differential Privacy (TrieHH), 2020. In each round some clients vote:
each takes one of its words, and if the trie holds all of it but the rest, votes for the next letter. What gets
`threshold` votes grows the trie. With m of n clients in a round, L rounds, g = m / sqrt(n) and t = threshold it is
(epsilon, delta)-private for a client with epsilon = L * ln(1 + 1 / (sqrt(n) / (g * t) - 1)) and
delta = (t - 2) / ((t - 3) * t!), if 4 <= t <= sqrt(n) and 1 <= g <= sqrt(n) / (t + 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from nexus.federate.core.algorithm import State, Vector
from nexus.federate.core.analytics.query import Query
from nexus.federate.core.analytics.wordcells import WORD_B
from nexus.kernel.errors import UsageError

_LETTERS = 256  # bytes; 0 ends a word
_FOUND = "query.found"
_VOTERS = "query.voters"


@dataclass(frozen=True)
class HeavyHitters(Query):
    """`prefixes` beginnings at most are followed; words of up to `longest` bytes."""

    words: ClassVar[bool] = True

    threshold: int = 10
    prefixes: int = 64
    longest: int = 10

    def __post_init__(self) -> None:
        """Raises UsageError."""
        super().__post_init__()
        if self.threshold < 1 or self.prefixes < 1 or not 1 <= self.longest < WORD_B:
            raise UsageError(
                f"threshold and prefixes must be 1 or more, longest from 1 to {WORD_B - 1}", hint="10, 64 and 10 do."
            )

    @property
    def length(self) -> int:
        return self.prefixes * _LETTERS

    @property
    def rounds(self) -> int:
        return self.longest + 1

    def count(self, values: Any, asked: Vector, number: int, dice: Any) -> Vector:
        import numpy as np

        votes = np.zeros((self.prefixes, _LETTERS))
        word = values[int(dice.integers(len(values)))]
        for at, prefix in enumerate(self._prefixes(asked, number)):
            if np.array_equal(prefix, word[: number - 1]):
                votes[at, int(word[number - 1])] = self.each or 1
        return votes.reshape(-1)

    def conclude(self, state: State, sums: Vector, clients: int) -> State:
        import numpy as np

        votes = np.rint(sums / (self.each or 1)).reshape(self.prefixes, _LETTERS)
        before = self._prefixes(state.model, state.number)
        grown: list[tuple[float, Any]] = []
        found = [state.extra[_FOUND]] if _FOUND in state.extra else []
        for at, letter in zip(*np.nonzero(votes >= self.threshold), strict=True):
            if at >= len(before):
                continue
            if letter:
                grown.append((-votes[at, letter], np.append(before[at], letter)))
            else:
                whole = np.zeros(WORD_B + 1)
                whole[: state.number - 1], whole[-1] = before[at], votes[at, 0]
                found.append(whole)
        grown.sort(key=lambda one: (one[0], one[1].tolist()))
        asked = np.zeros(self.length, np.float32)
        for at, (_, prefix) in enumerate(grown[: self.prefixes]):
            asked[1 + at * WORD_B : 1 + at * WORD_B + len(prefix)] = prefix
        asked[0] = min(len(grown), self.prefixes)
        extra = {_VOTERS: np.array([clients], np.float32)}
        if found:
            extra[_FOUND] = np.concatenate(found).astype(np.float32)
        return replace(state, model=asked, extra=state.extra | extra)

    def over(self, state: State) -> str:
        return "no beginning has votes enough" if state.number and not state.model[0] else super().over(state)

    def answer(self, state: State) -> dict[str, float]:
        rows = state.extra[_FOUND].reshape(-1, WORD_B + 1) if _FOUND in state.extra else []
        words = {
            bytes(row[:-1].astype("uint8")).rstrip(b"\0").decode("utf-8", "replace"): float(row[-1]) for row in rows
        }
        found = {f"value/{word}": votes for word, votes in sorted(words.items(), key=lambda one: (-one[1], one[0]))}
        return self._privacy(state.clients, int(state.extra[_VOTERS][0])) | found

    def _prefixes(self, asked: Vector, number: int) -> Any:
        """The beginnings that are followed in a round, a row of `number - 1` bytes each."""
        if number == 1:
            return asked[:0].reshape(1, 0).astype("uint8")
        table = asked[1 : 1 + self.prefixes * WORD_B].reshape(self.prefixes, WORD_B)
        return table[: int(asked[0]), : number - 1].astype("uint8")

    def _privacy(self, clients: int, voters: int) -> dict[str, float]:
        """What is promised to a client; nothing where the paper's conditions do not hold."""
        root, t = math.sqrt(clients), self.threshold
        share = voters / root
        if not (4 <= t <= root and 1 <= share <= root / (t + 1)):
            return {}
        epsilon = self.rounds * math.log(1 + 1 / (root / (share * t) - 1))
        return {"epsilon": epsilon, "delta": (t - 2) / ((t - 3) * math.factorial(t))}
