"""Counters and latency of one endpoint, and their text for Prometheus (exposition format 0.0.4)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


@dataclass(slots=True)
class Meter:
    """What happened on one endpoint since the gateway started. Mutable: it is counted into on every request."""

    project: str
    endpoint: str
    inflight: int = 0
    retries: int = 0
    sum_s: float = 0.0
    statuses: dict[int, int] = field(default_factory=dict)
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))

    def count(self, status: int, seconds: float) -> None:
        """One answered request; 499 stands for a client that went away."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.sum_s += seconds
        self.buckets[bisect_left(BOUNDS_S, seconds)] += 1

    @property
    def requests(self) -> int:
        """All answers."""
        return sum(self.statuses.values())

    @property
    def errors(self) -> int:
        """Answers with a 5xx status."""
        return sum(count for status, count in self.statuses.items() if status >= 500)


def exposition(meters: Iterable[Meter]) -> str:
    """All meters as Prometheus reads them."""
    found = list(meters)
    lines = ["# TYPE nexus_requests_total counter"]
    for meter in found:
        name = _labels(meter)
        lines += [
            f'nexus_requests_total{{{name},status="{status}"}} {count}'
            for status, count in sorted(meter.statuses.items())
        ]
    lines.append("# TYPE nexus_requests_inflight gauge")
    lines += [f"nexus_requests_inflight{{{_labels(meter)}}} {meter.inflight}" for meter in found]
    lines.append("# TYPE nexus_request_retries_total counter")
    lines += [f"nexus_request_retries_total{{{_labels(meter)}}} {meter.retries}" for meter in found]
    lines.append("# TYPE nexus_request_seconds histogram")
    for meter in found:
        lines += _histogram(meter)
    return "\n".join(lines) + "\n"


def _labels(meter: Meter) -> str:
    return f'project="{meter.project}",endpoint="{meter.endpoint}"'


def _histogram(meter: Meter) -> list[str]:
    lines, total, name = [], 0, _labels(meter)
    for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), meter.buckets, strict=True):
        total += count
        lines.append(f'nexus_request_seconds_bucket{{{name},le="{bound}"}} {total}')
    lines.append(f"nexus_request_seconds_sum{{{name}}} {meter.sum_s:.6f}")
    lines.append(f"nexus_request_seconds_count{{{name}}} {total}")
    return lines
