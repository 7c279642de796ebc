"""What people ask and are answered about the queue; light, because the command line reads it."""

from __future__ import annotations

from dataclasses import dataclass

from nexus.launch.core.queue.shares import Amount
from nexus.launch.model import Quota

LIMITS = ("gpus", "cpu", "memory_b", "price", "budget")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaRequest:
    """What to change. None leaves a limit as it is; the limits named in `lift` are taken away."""

    weight: float | None = None
    gpus: int | None = None
    cpu: float | None = None
    memory_b: int | None = None
    price: float | None = None
    budget: float | None = None
    lift: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaView:
    """A project's quota, and what it holds and has spent of it."""

    quota: Quota
    held: Amount
    tasks: int
    spent: float  # in this calendar month, what runs now included


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What `nexus why` adds to a run that wants a node. `position` counts from 1; 0: it is not in the queue."""

    position: int = 0
    of: int = 0
    lines: tuple[str, ...] = ()
