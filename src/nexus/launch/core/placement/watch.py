"""Which classes of need, of those that wait for room, freed room could serve: asked of a room, not of every need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from nexus.launch.core.placement.ask import Ask
from nexus.launch.core.placement.index import Index, fits
from nexus.launch.core.placement.need import Need
from nexus.launch.core.placement.room import Room
from nexus.launch.core.placement.shelf import Kind

_SPARE = 64  # needs that nobody waits with any more and that are kept; as many again as there are others, too


@dataclass(slots=True, eq=False)
class _Watched:
    ask: Ask
    awaited: bool = True


@dataclass(slots=True)
class Watch:
    """Needs that are waited with, by the kinds of machine that could take them."""

    index: Index
    _needs: dict[Need, _Watched] = field(default_factory=dict)
    _kinds: dict[Kind, dict[_Watched, int]] = field(default_factory=dict)  # with the shelves that fit, as bits
    _awaited: int = 0
    _made: int = -1  # the index's version when `_kinds` was made

    def add(self, need: Need) -> None:
        """Somebody waits with it."""
        watched = self._needs.get(need)
        if watched is None:
            watched = self._needs[need] = _Watched(Ask(need, None))
            if self._made == self.index.version:
                self._sort_in(watched)
        elif watched.awaited:
            return
        watched.awaited = True
        self._awaited += 1

    def discard(self, need: Need) -> None:
        """Nobody does any more. It is only marked: most come again soon."""
        watched = self._needs.get(need)
        if watched is not None and watched.awaited:
            watched.awaited = False
            self._awaited -= 1
            if len(self._needs) > 2 * self._awaited + _SPARE:
                self._needs = {need: one for need, one in self._needs.items() if one.awaited}
                self._made = -1

    def fits(self, need: Need, room: Room) -> bool:
        """Whether one task of a watched need has room there now."""
        watched, row = self._needs.get(need), self.index.row(need, room)
        return watched is not None and row is not None and fits(room, row, watched.ask)

    def served(self, room: Room) -> Iterator[Need]:
        """Those of which one task has room there now."""
        if not self._needs:
            return
        self._bring_up_to_date()
        shelf = room.shelf
        if shelf is None:
            return
        for watched, bits in self._kinds.get(shelf.kind, {}).items():
            ask = watched.ask
            if watched.awaited and bits & shelf.flag and room.gpus.bit_count() >= ask.gpus and room.cpu >= ask.cpu:
                row = self.index.row(ask.need, room)
                if row is not None and fits(room, row, ask):
                    yield ask.need

    def _bring_up_to_date(self) -> None:
        if self._made == self.index.version:
            return
        for need in self._needs:
            self.index.match(need)  # which may set shelves apart by a label, and so make a new version
        self._made = self.index.version
        self._kinds.clear()
        for watched in self._needs.values():
            self._sort_in(watched)

    def _sort_in(self, watched: _Watched) -> None:
        for kind, bits, _ in self.index.match(watched.ask.need).found:
            self._kinds.setdefault(kind, {})[watched] = bits
