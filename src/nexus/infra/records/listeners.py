"""Those who hear of every committed transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from nexus.kernel.events import Event
from nexus.kernel.records import Change, Listener

log = structlog.get_logger()


class Listeners:
    """In the order in which they came."""

    def __init__(self) -> None:
        self._all: list[Listener] = []

    def add(self, listener: Listener) -> Callable[[], None]:
        """From now on; until the returned function is called."""
        self._all = [*self._all, listener]

        def stop() -> None:
            self._all = [other for other in self._all if other is not listener]

        return stop

    def tell(self, changes: Sequence[Change], events: Sequence[Event]) -> None:
        """What was committed. The transaction stands whatever a listener does."""
        for listener in self._all:
            try:
                listener(changes, events)
            except Exception:
                log.exception("records.listener_failed")
