"""How often somebody may ask: token buckets, one a key, bounded in number."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from nexus.kernel.errors import ThrottledError

_MOST_KEYS = 20_000


class Buckets:
    """Each key may do `burst` things at once, and `rate` a second in the long run; a rate of 0 bounds nothing."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key -> what is left of it, and when

    def take(self, key: str, now: float) -> float:
        """Take one; 0, or how many seconds it is too early."""
        if self._rate <= 0:
            return 0.0
        left, then = self._left.pop(key, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        early = max(0.0, (1.0 - left) / self._rate)
        self._left[key] = (left if early else left - 1.0, now)
        if len(self._left) > _MOST_KEYS:
            self._left.popitem(last=False)  # whoever was quiet for longest has a full bucket by now, or nearly
        return early

    def clear(self) -> None:
        """Everybody begins anew."""
        self._left.clear()


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The bounds of one server. `monotonic` is its clock."""

    monotonic: Callable[[], float]
    denials: Buckets = field(default_factory=lambda: Buckets(rate=5.0, burst=100.0))  # by address
    logins: Buckets = field(default_factory=lambda: Buckets(rate=0.2, burst=20.0))  # by address
    notes: Buckets = field(default_factory=lambda: Buckets(rate=1 / 60, burst=5.0))  # denials written to the trail
    submits: Buckets = field(default_factory=lambda: Buckets(rate=0.0, burst=1.0))  # by token and address

    def need(self, bucket: Buckets, key: str, what: str) -> None:
        """Take one. Raises ThrottledError, which says when to come again."""
        early = bucket.take(key, self.monotonic())
        if early:
            raise ThrottledError(
                f"too many {what}", hint=f"Try again in {math.ceil(early)} s.", retry_after_s=math.ceil(early)
            )
