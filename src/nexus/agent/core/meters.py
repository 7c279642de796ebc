"""From readings of what a task uses to the metrics that people see."""

from __future__ import annotations

from nexus.agent.model import Reading

_START = Reading(lived_s=0.0, cpu_s=0.0, memory_b=0, read_b=0, written_b=0)


def system_metrics(before: Reading | None, now: Reading) -> dict[str, float]:
    """What a task used since the reading before (None: since its start). Empty if no time has passed.

    system/cpu is in percent of one core; bytes a second where a name ends in _b_s.
    """
    before = before or _START
    passed_s = now.lived_s - before.lived_s
    if passed_s <= 0:
        return {}
    # What a process used that has ended while nobody waited for it is lost to us: no less than nothing was used.
    values: dict[str, float | None] = {
        "system/cpu": 100 * max(0.0, now.cpu_s - before.cpu_s) / passed_s,
        "system/memory_b": now.memory_b,
        "system/read_b_s": _rate(before.read_b, now.read_b, passed_s),
        "system/written_b_s": _rate(before.written_b, now.written_b, passed_s),
        "system/gpu": now.gpu_percent,
        "system/gpu_memory_b": now.gpu_memory_b,
    }
    return {name: round(float(value), 1) for name, value in values.items() if value is not None}


def _rate(before: int | None, now: int | None, passed_s: float) -> float | None:
    return None if before is None or now is None else max(0, now - before) / passed_s
