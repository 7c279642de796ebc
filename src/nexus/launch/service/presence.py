"""Who was heard when, in memory: heartbeats are many, and a restarted server may safely take everybody as just heard.

All times are the server's monotonic seconds. Safety rests on one rule: a lease counts from the arrival of the request
whose answer carried the order, which is never before the agent sent it; so `lost_s` after the last such arrival the
agent has given up. A task that is about to be declared lost is `doomed` first, without waiting in between, so that no
answer that is being written at the time renews it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class Presence:
    """When each node was heard, each task's lease renewed, and each task last spoken of by its node."""

    def __init__(self, started: float = 0.0) -> None:
        self.started = started
        self._heard: dict[str, float] = {}
        self._renewed: dict[str, float] = {}
        self._spoken: dict[str, float] = {}
        self._doomed: dict[str, float] = {}

    def heard(self, node: str, now: float) -> None:
        """A request of `node` arrived."""
        self._heard[node] = max(now, self._heard.get(node, now))

    def leased(self, tasks: Iterable[str], now: float) -> None:
        """Tasks were given to nodes that have not heard of them yet."""
        for task in tasks:
            self._renewed.setdefault(task, now)
            self._spoken.setdefault(task, now)

    def spoken_of(self, tasks: Iterable[str], now: float) -> None:
        """A node's report named these tasks."""
        for task in tasks:
            self._spoken[task] = now

    def renew(self, tasks: Iterable[str], arrived: float) -> None:
        """An answer to the request that arrived then carries these tasks' orders."""
        for task in tasks:
            self._renewed[task] = max(arrived, self._renewed.get(task, arrived))

    def is_spoken_of(self, task: str, now: float, forget_s: float) -> bool:
        """Whether the node still knows the task: one that is silent about it for `forget_s` has lost it.

        It is ordered no more then, and its lease runs out.
        """
        return now - self._spoken.get(task, self.started) <= forget_s

    def doom(self, tasks: Iterable[str], now: float) -> None:
        """These are declared lost now: order them no more."""
        self._doomed |= dict.fromkeys(tasks, now)

    def is_doomed(self, task: str) -> bool:
        """Whether the task was, or is being, declared lost."""
        return task in self._doomed

    def spare(self, tasks: Iterable[str]) -> None:
        """Declaring these lost failed by a conflict; the next look decides again."""
        for task in tasks:
            self._doomed.pop(task, None)

    def forget(self, live: Iterable[str], nodes: Iterable[str], before: float) -> None:
        """Keep only what still matters; dooms older than `before` are in every record that anybody can still hold."""
        alive, known = set(live), set(nodes)
        for book in (self._renewed, self._spoken):
            for task in [task for task in book if task not in alive]:
                del book[task]
        for node in [node for node in self._heard if node not in known]:
            del self._heard[node]
        for task in [task for task, at in self._doomed.items() if at < before and task not in alive]:
            del self._doomed[task]

    def silence(self, nodes: Iterable[str], now: float) -> Mapping[str, float]:
        """Seconds since each node was heard."""
        return {node: now - self._heard.get(node, self.started) for node in nodes}

    def unrenewed(self, tasks: Iterable[str], now: float) -> Mapping[str, float]:
        """Seconds since each task's lease was renewed."""
        return {task: now - self._renewed.get(task, self.started) for task in tasks}
