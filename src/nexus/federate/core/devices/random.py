"""Devices drawn by the seed: log-normal speeds, links of one speed's spread, turns that fail, and hours of absence.

Log-normal is what traces of phones look like (Lai et al., FedScale, 2022): with `spread` 1, the slowest tenth is 3.6
times slower than the median.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from nexus.federate.core.seeds import derive
from nexus.kernel.errors import UsageError

_ROUNDING = 1e-9  # of a period: who comes at its end is there


@dataclass(frozen=True)
class RandomDevices:
    """`speed` in samples per second and `bandwidth` in bytes per second are medians over clients.

    `spread` is the deviation of a client's logarithm of speed, `jitter` that of a turn's; `drop` the part of turns that
    fail. A client is away for the part `away` of every `period_s` seconds, each at its own time.
    """

    speed: float = 200.0
    spread: float = 1.0
    jitter: float = 0.1
    drop: float = 0.0
    bandwidth: float = 1e6
    away: float = 0.0
    period_s: float = 600.0
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        """Raises UsageError."""
        rules = {
            "devices.speed must be above 0": 0 < self.speed < math.inf,
            "devices.bandwidth must be above 0": 0 < self.bandwidth < math.inf,
            "devices.spread must be from 0 to 5": 0 <= self.spread <= 5,
            "devices.jitter must be from 0 to 5": 0 <= self.jitter <= 5,
            "devices.drop must be from 0 to below 1": 0 <= self.drop < 1,
            "devices.away must be from 0 to below 1": 0 <= self.away < 1,
            "devices.period_s must be above 0": 0 < self.period_s < math.inf,
        }
        for rule, holds in rules.items():
            if not holds:
                raise UsageError(rule, hint="The defaults are a median of 200 samples and 1 MB a second.")

    def seconds(self, client: int, number: int, samples: int, size_b: int) -> float:
        slowness = self._drawn("speed", client).lognormvariate(0.0, self.spread)
        today = self._drawn("jitter", client, number).lognormvariate(0.0, self.jitter)
        return slowness * today * (samples / self.speed + size_b / self.bandwidth)

    def fails(self, client: int, number: int) -> float | None:
        dice = self._drawn("fails", client, number)
        return dice.random() if dice.random() < self.drop else None

    def comes(self, client: int, at: float) -> float:
        if not self.away:
            return at
        phase = self._phase(client, at)
        return at if phase < self._stay else at + self.period_s - phase

    def leaves(self, client: int, at: float) -> float:
        if not self.away:
            return math.inf
        return at + max(0.0, self._stay - self._phase(client, at))

    @property
    def _stay(self) -> float:
        return (1 - self.away) * self.period_s

    def _phase(self, client: int, at: float) -> float:
        """How far into its period the client is: it begins with its stay."""
        phase = (at + self._drawn("phase", client).random() * self.period_s) % self.period_s
        return 0.0 if self.period_s - phase < _ROUNDING * self.period_s else phase

    def _drawn(self, *path: str | int) -> random.Random:
        return random.Random(derive(self.seed, "devices", *path))  # noqa: S311 (a reproducible draw)
