"""How pages say numbers: short, and never more exact than a reader needs. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from nexus.kernel.units import format_bytes, format_seconds


def size(count: float | None) -> str:
    """`1.2 GB`."""
    return "—" if count is None else format_bytes(count)


def duration(seconds: float | None) -> str:
    """`3m 20s`."""
    return "—" if seconds is None else format_seconds(max(seconds, 0.0))


def ago(seconds: float) -> str:
    """`just now`, `5 min ago`, `3 days ago`."""
    if seconds < 10:
        return "just now"
    for limit, unit, name in ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h")):
        if seconds < limit:
            return f"{int(seconds // unit)} {name} ago"
    days = int(seconds // 86400)
    return "yesterday" if days == 1 else f"{days} days ago"


def money(amount: float | None) -> str:
    """`free`, `$0.42`, `$0.0013`."""
    if not amount:
        return "free"
    return f"${amount:,.2f}" if amount >= 0.01 else f"${amount:.2g}"


def number(value: float | None) -> str:
    """Four significant digits: `0.9612`, `1,204`, `3.1e-05`."""
    if value is None:
        return "—"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.4g}"


def short_id(identity: str) -> str:
    """The end of an id, enough to tell neighbours apart."""
    return identity.partition("_")[2][-6:] or identity


def iso(at: float | None) -> str:
    """`2026-11-24T11:30:00Z`, for `<time datetime>`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else ""


def clock_time(at: float | None) -> str:
    """`11:30:05`, UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S") if at else "—"


_FIRST = ("loss", "accura", "perplexity", "reward", "score", "error", "auc", "f1")


def weight(key: str) -> tuple[int, str]:
    """What people look for first comes first: a run's loss and accuracy, then the rest, the machine last."""
    if is_of_machine(key):
        return 2, key
    return int(not any(word in key.lower() for word in _FIRST)), key


def is_of_machine(key: str) -> bool:
    """Whether a metric was measured by the node, and not logged by the job."""
    return key.startswith("system/")
