"""What should be, against what is: the actions that bring one to the other. Doing them twice does no harm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nexus.agent.model import LocalTask
from nexus.launch.model import Cause
from nexus.launch.protocol import Desired, TaskOrder


@dataclass(frozen=True, slots=True)
class Begin:
    """A task that is not here yet: prepare it, or (if it is not wanted any more) only say that it stopped."""

    order: TaskOrder


@dataclass(frozen=True, slots=True)
class Follow:
    """The order changed: the gang may go, or the peers are known."""

    order: TaskOrder


@dataclass(frozen=True, slots=True)
class End:
    """A task that must not go on."""

    task: str
    why: Cause
    detail: str


@dataclass(frozen=True, slots=True)
class Forget:
    """An ended task that the server has heard of."""

    task: str


Action = Begin | Follow | End | Forget


def reconcile(
    desired: Desired | None, tasks: Mapping[str, LocalTask], leases: Mapping[str, float], now: float
) -> list[Action]:
    """Every action that is due now. Without a word from the server (None), only leases end."""
    actions: list[Action] = []
    orders = {order.task: order for order in desired.orders} if desired else {}
    for task, order in orders.items():
        if task not in tasks and desired is not None and task not in desired.acknowledged:
            actions.append(Begin(order))
    for task, local in tasks.items():
        action = _one(local, orders.get(task), desired, leases.get(task), now)
        if action is not None:
            actions.append(action)
    return actions


def _one(
    local: LocalTask, order: TaskOrder | None, desired: Desired | None, lease: float | None, now: float
) -> Action | None:
    task = local.order.task
    if local.ended:
        if order is not None and order.epoch > local.order.epoch:
            return Forget(task)
        return Forget(task) if desired is not None and task in desired.acknowledged else None
    if lease is not None and now >= lease:
        # Nobody here knows whether the server has given the task to another machine by now: the process must go first.
        return End(task, Cause.NODE_LOST, "its lease ran out: no word from the server in time")
    if desired is None:
        return None
    if order is None:
        return End(task, Cause.STOPPED, "the server does not want it any more")
    if order.epoch > local.order.epoch:
        return End(task, Cause.NODE_LOST, "it was leased anew")
    if order.epoch < local.order.epoch:
        return None  # a late message
    if order.wanted == "stop":
        return End(task, Cause.STOPPED, "stopped")
    return Follow(order) if order != local.order else None
