"""Quantities as people write them: `16GiB`, `2h`, `4..8`, `$1.75`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from nexus.kernel.errors import UsageError

_BYTES = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgtp", start=1):
    _BYTES |= {_letter: 1000**_power, f"{_letter}b": 1000**_power, f"{_letter}ib": 1024**_power}
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_NUMBER_UNIT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", re.ASCII)


def parse_bytes(value: str | float) -> int:
    """Bytes in `16GiB`, `500MB`, `1024`. Raises UsageError."""
    return int(_parse(value, _BYTES, "a size, such as 16GiB or 500MB"))


def parse_seconds(value: str | float) -> float:
    """Seconds in `2h`, `90s`, `1.5d`, `30`. Raises UsageError."""
    return _parse(value, _SECONDS, "a duration, such as 90s or 2h")


def _parse(value: str | float, units: dict[str, int] | dict[str, float], what: str) -> float:
    if isinstance(value, bool):
        raise UsageError(f"{value!r} is not {what}")
    if isinstance(value, int | float):
        if not math.isfinite(value) or value < 0:
            raise UsageError(f"{value!r} is not {what}")
        return value
    match = _NUMBER_UNIT.fullmatch(value)
    factor = units.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise UsageError(f"{value!r} is not {what}")
    return float(match[1]) * factor


def format_bytes(count: float) -> str:
    """`48 KB`, `1.2 GB`: three significant figures, powers of 1000."""
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.3g} {unit}" if count < 1000 else f"{count:.0f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def format_time(at: float) -> str:
    """`2026-05-01 09:30:00`, UTC, of seconds since 1970."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def format_seconds(seconds: float) -> str:
    """`850 ms`, `42 s`, `3m 20s`, `2h 05m`, `3d 4h`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h {minutes:02d}m"
    days, hours = divmod(hours, 24)
    return f"{days}d {hours}h"


@dataclass(frozen=True, slots=True)
class Range:
    """An inclusive range; `None` is open: `4..` is Range(4, None), `..8` is Range(None, 8)."""

    low: float | None = None
    high: float | None = None

    def holds(self, value: float) -> bool:
        """Whether `value` lies in the range."""
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    @property
    def least(self) -> float:
        """The smallest value that satisfies the range."""
        return self.low or 0.0


def parse_range(value: str | float, unit: str = "number") -> Range:
    """`4` is exactly 4 as a need of at least 4 (a machine may be larger); `4..8`, `4..`, `..8` are ranges.

    `unit` is `number`, `bytes` or `seconds`. Raises UsageError.
    """
    parse = {"number": _parse_number, "bytes": parse_bytes, "seconds": parse_seconds}[unit]
    if isinstance(value, str) and ".." in value:
        left, _, right = value.partition("..")
        low = parse(left) if left.strip() else None
        high = parse(right) if right.strip() else None
        if low is None and high is None:
            raise UsageError(f"{value!r} is not a range, such as 4..8, 4.. or ..8")
        if low is not None and high is not None and low > high:
            raise UsageError(f"the range {value!r} ends before it begins")
        return Range(low, high)
    return Range(parse(value), None)


def _parse_number(value: str | float) -> float:
    return _parse(value, {"": 1}, "a number or a range, such as 4, 4.. or 4..8")
