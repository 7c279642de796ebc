"""What of an order is secret, and what follows from that."""

from __future__ import annotations

from nexus.launch.protocol import TaskOrder


def secret_values(order: TaskOrder) -> tuple[str, ...]:
    """What must not be read in the task's log: its secrets, and the token of its run."""
    return tuple(value for value in (*order.secrets.values(), order.token) if value)


def sharers(order: TaskOrder) -> str:
    """Who alone may use what the task's setup makes, for it may keep the secrets that it saw; empty: everybody."""
    return order.project if order.secrets else ""
