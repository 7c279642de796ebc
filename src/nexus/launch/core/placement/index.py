"""The index over rooms: which shelves a class of need fits, as bits, and the cheapest room on them.

What never changes of a node is compared once for a class of need and a shelf, and remembered as one whole number with
a bit for each shelf. What changes is how much is free: that alone decides where on its shelf a room stands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from heapq import heappop, heappush
from typing import Any

from nexus.launch.core.placement.ask import Ask, Key
from nexus.launch.core.placement.need import Need, fitting_gpus, large_enough, share_of
from nexus.launch.core.placement.room import Room, micro
from nexus.launch.core.placement.shelf import FULL, LATE, Kind, Place, Shelf, Size, Span, Stack, cpu_class, memory_class
from nexus.launch.model import Node

REMEMBERED = 8192  # classes of need, and masks, that are remembered at once

Found = tuple[Key, Room, float]  # the last: what the task really costs there per hour


@dataclass(slots=True)
class Row:
    """A kind that fits a class of need."""

    kind: Kind
    bits: int  # its shelves that fit
    low: float  # the least share of a node's price that a task pays; exactly that, if `even`
    even: bool
    strict: bool  # some nodes of the kind are too small or too large for good: each is compared
    fitting: int  # its accelerators that fit, as bits; 0 when all do


class Index:
    """Rooms of nodes that take tasks."""

    def __init__(self) -> None:
        self.shelves: list[Shelf] = []
        self._kinds: dict[Size, Kind] = {}
        self._open: dict[tuple[Size, Place], Shelf] = {}  # where the next room of such a place goes
        self._asked: set[str] = set()  # labels that some need named: only these set shelves apart
        self._labels: Counter[str] = Counter()  # labels that nodes have
        self._masks: dict[tuple[str, Any], int] = {}
        self._rows: dict[Need, list[Row]] = {}
        self._stale: dict[Shelf, None] = {}

    # ------------------------------------------------------------------ changes

    def add(self, room: Room) -> None:
        """A room that is in no index."""
        self._labels.update(list(room.node.labels))
        self._shelve(room)

    def remove(self, room: Room) -> None:
        """Undo `add`."""
        shelf = room.shelf
        if shelf is not None:
            self._labels.subtract(list(room.node.labels))
            shelf.remove(room)
            self._note(shelf)

    def moved(self, room: Room, shelf: Shelf) -> None:
        """What is free of it changed; it was taken out of the shelf's order before."""
        shelf.sort_in(room)
        if shelf.stale:
            self._stale[shelf] = None

    def _note(self, shelf: Shelf) -> None:
        if shelf.stale:
            self._stale[shelf] = None

    def _shelve(self, room: Room) -> None:
        node = room.node
        size, place = _size_of(room), self._place_of(node)
        shelf = self._open.get((size, place))
        if shelf is None or len(shelf.rooms) >= FULL:
            shelf = self._open[size, place] = self._new_shelf(size, place)
        kind, capacity = shelf.kind, node.capacity
        widened = kind.cpu.widen(capacity.cpu) | kind.memory_b.widen(capacity.memory_b)
        if widened | kind.disk_b.widen(capacity.disk_b):
            self._rows.clear()
        shelf.add(room)
        self._note(shelf)

    def _new_shelf(self, size: Size, place: Place) -> Shelf:
        kind = self._kinds.get(size)
        if kind is None:
            kind = self._kinds[size] = Kind(size)
        shelf = Shelf(kind, place, 1 << len(self.shelves))
        kind.bits |= shelf.flag
        kind.shelves.append(shelf)
        self.shelves.append(shelf)
        for (what, value), mask in self._masks.items():
            if _belongs(what, value, place):
                self._masks[what, value] = mask | shelf.flag
        self._rows.clear()
        return shelf

    def _place_of(self, node: Node) -> Place:
        asked = self._asked
        labels = tuple(sorted(item for item in node.labels.items() if item[0] in asked)) if asked else ()
        return Place(node.project, node.region, node.isolation, labels)

    def _ask_for(self, names: Iterable[str]) -> None:
        """Set shelves apart by labels that nobody asked for until now; one that no node has needs no shelves."""
        new = {name for name in names if name not in self._asked and self._labels[name] > 0}
        if new:
            self._asked |= new
            self.rebuild()

    def rebuild(self) -> None:
        """All shelves anew, without those that are empty."""
        rooms = [room for shelf in self.shelves for room in shelf.rooms.values()]
        for shelf in self.shelves:
            shelf.stacks.clear()
        self.shelves, self._kinds, self._open = [], {}, {}
        self._masks.clear()
        self._stale.clear()
        for room in rooms:
            self._shelve(room)

    def fresh(self) -> None:
        """Bring the ladders up to date, which every question needs."""
        if self._stale:
            for shelf in self._stale:
                shelf.refresh()
            self._stale.clear()

    # ------------------------------------------------------------------ what fits at all

    def rows(self, need: Need) -> list[Row]:
        """The kinds and shelves where such a task could run, were they free."""
        rows = self._rows.get(need)
        if rows is None:
            if need.labels:
                self._ask_for(name for name, _ in need.labels)
            if len(self._rows) >= REMEMBERED:
                self._rows.clear()
            rows = self._rows[need] = self._match(need)
        return rows

    def row(self, need: Need, room: Room) -> Row | None:
        """How a room's kind fits, if the room does but for what is free."""
        shelf = room.shelf
        if shelf is None:
            return None
        return next((row for row in self.rows(need) if row.kind is shelf.kind and shelf.flag & row.bits), None)

    def _match(self, need: Need) -> list[Row]:
        mask = self._mask("regions", need.regions) if need.regions else -1
        if need.project:
            mask &= self._mask("project", need.project)
        if need.isolation:
            mask &= self._mask("isolation", need.isolation)
        for label in need.labels:
            mask &= self._mask("label", label)
        rows = []
        for kind in self._kinds.values():
            bits = kind.bits & mask
            if bits:
                row = _row(need, kind, bits)
                if row is not None:
                    rows.append(row)
        return rows

    def _mask(self, what: str, value: Any) -> int:
        mask = self._masks.get((what, value))
        if mask is None:
            if len(self._masks) >= REMEMBERED:
                self._masks.clear()
            mask = 0
            for shelf in self.shelves:
                if _belongs(what, value, shelf.place):
                    mask |= shelf.flag
            self._masks[what, value] = mask
        return mask

    # ------------------------------------------------------------------ what fits now

    def first(self, ask: Ask, limit: float) -> Found | None:
        """The room that comes first in order, and costs at most `limit` per hour."""
        self.fresh()
        best: Found | None = None
        for row in self.rows(ask.need):
            wear = ask.wear(row.kind.size)
            exact = row.even and ask.natural
            low, bits = row.low, row.bits
            for head in row.kind.ladder(ask.rung):
                real = head[0] * low
                if real > limit:
                    break
                if best is not None:
                    price = real * wear
                    if price > best[0][0] or (exact and price == best[0][0] and head[1:5] > best[0][1:]):
                        break
                shelf = head[5]
                if shelf.flag & bits:
                    best = _first_on(shelf, row, ask, wear, limit, best)
        return best

    def walk(self, ask: Ask, limit: float) -> Iterator[Found]:
        """Every room that fits now, in order, as far as somebody asks. Rooms may be taken from meanwhile (see search):
        what is yielded fitted, by what was free when its turn came; each is yielded once.
        """
        self.fresh()
        heap: list[Any] = []
        for row in self.rows(ask.need):
            _push_rung(heap, row, ask, row.kind.ladder(ask.rung), 0)
        while heap:
            key, _, what, row, at = heappop(heap)
            if isinstance(what, list):
                for stack in what[at][5].stacks.values():
                    _push_entry(heap, row, ask, stack, 0, limit)
                _push_rung(heap, row, ask, what, at + 1)
            elif isinstance(what, Stack):
                if len(key) == 1:
                    room = what.entries[at][4]
                    real = ask.price(room.node)
                    if real <= limit:
                        heappush(heap, (ask.key(room, real, row.kind.size), id(room), room, row, real))
                else:
                    room = what.entries[at][4]
                    yield key, room, room.node.price * row.low
                _push_entry(heap, row, ask, what, at + 1, limit)
            else:
                yield key, what, at


def _push_rung(heap: list[Any], row: Row, ask: Ask, ladder: list[Any], at: int) -> None:
    """The next shelf of a ladder that fits, to be opened when its best room's turn has come."""
    bits = row.bits
    for position in range(at, len(ladder)):
        head = ladder[position]
        if head[5].flag & bits:
            price = head[0] * row.low * ask.wear(row.kind.size)
            key = (price, *head[1:5]) if row.even and ask.natural else (price,)
            heappush(heap, (key, -id(ladder), ladder, row, position))
            return


def _push_entry(heap: list[Any], row: Row, ask: Ask, stack: Stack, at: int, limit: float) -> None:
    """The next room of a stack that fits: under its key where that is known, else under its least price alone."""
    if not _may_hold(stack, ask):
        return
    wear = ask.wear(row.kind.size)
    entries = stack.entries
    for position in range(at, len(entries)):
        price, load, name, node_id, room = entries[position]
        if fits(room, row, ask):
            real = price * row.low
            if real > limit:
                return
            if row.even and ask.natural:
                tie = row.kind.size.late + (stack.gpus if ask.gpus else 0)
                heappush(heap, ((real * wear, tie, load, name, node_id), id(room), stack, row, position))
            else:
                heappush(heap, ((real * wear,), id(room), stack, row, position))
            return


def _may_hold(stack: Stack, ask: Ask) -> bool:
    return (
        stack.gpus >= ask.gpus
        and stack.cpu_class >= ask.cpu_class
        and stack.memory_class >= ask.memory_class
        and stack.most_cpu >= ask.cpu
        and stack.most_b >= ask.memory_b
    )


def fits(room: Room, row: Row, ask: Ask) -> bool:
    """Whether a room of the row's kind and shelves has enough free now."""
    return (
        room.cpu >= ask.cpu
        and room.memory_b >= ask.memory_b
        and room.gpus.bit_count() >= ask.gpus
        and (not row.fitting or (room.gpus & row.fitting).bit_count() >= ask.gpus)
        and (not row.strict or large_enough(ask.need, room.node.capacity))
    )


def _first_on(  # noqa: C901  (the one hot loop)
    shelf: Shelf, row: Row, ask: Ask, wear: float, limit: float, best: Found | None
) -> Found | None:
    """The better of `best` and the first room on one shelf."""
    exact = row.even and ask.natural
    low = row.low
    for stack in shelf.stacks.values():
        if not _may_hold(stack, ask):
            continue
        seen = best
        for entry in stack.entries:
            real = entry[0] * low
            if real > limit or (best is not None and real * wear > best[0][0]):
                break
            room = entry[4]
            if not fits(room, row, ask):
                continue
            if exact:
                tie = row.kind.size.late + (stack.gpus if ask.gpus else 0)
                key: Key = (real * wear, tie, entry[1], entry[2], entry[3])
                if best is None or key < best[0]:
                    best = (key, room, real)
                break
            real = ask.price(room.node)
            if real <= limit:
                key = ask.key(room, real, row.kind.size)
                if best is None or key < best[0]:
                    best = (key, room, real)
        else:
            if best is seen:
                stack.tighten()
    return best


# --------------------------------------------------------------------------- what never changes of a node


def _size_of(room: Room) -> Size:
    node = room.node
    capacity = node.capacity
    return Size(
        capacity.gpus,
        cpu_class(micro(capacity.cpu)),
        memory_class(capacity.memory_b),
        node.spot,
        node.reclaims_per_h,
        room.start_s,
        LATE if room.offer else 0,
    )


def _belongs(what: str, value: Any, place: Place) -> bool:
    """Whether nodes of this place have what a need asks for."""
    if what == "regions":
        return any(fnmatchcase(place.region, glob) for glob in value)
    if what == "label":
        return value in place.labels
    if what == "isolation":
        return value in place.isolation
    return place.project in {value, ""}


def _row(need: Need, kind: Kind, bits: int) -> Row | None:
    """How a kind fits a need; None when none of its nodes could."""
    size = kind.size
    if (need.spot == "never" and size.spot) or (need.spot == "only" and not size.spot):
        return None
    fitting = 0
    if need.gpus:
        if len(size.gpus) < need.gpus:
            return None
        fitting = fitting_gpus(need, size.gpus)
        if fitting.bit_count() < need.gpus:
            return None
    checks = [
        _within(kind.cpu, need.cpu, need.cpu_most),
        _within(kind.memory_b, need.memory_b, need.memory_most_b),
        _within(kind.disk_b, need.disk_b, need.disk_most_b),
    ]
    if None in checks:
        return None
    low = share_of(need, len(size.gpus), kind.cpu.high, kind.memory_b.high)
    high = share_of(need, len(size.gpus), kind.cpu.low, kind.memory_b.low)
    mixed = fitting if kind.mixed else 0
    return Row(kind, bits, low, low == high, False in checks, mixed)


def _within(span: Span, least: float, most: float | None) -> bool | None:
    """True: every node of the kind has from `least` to `most`; None: none has; False: some have."""
    if span.high < least or (most is not None and span.low > most):
        return None
    return span.low >= least and (most is None or span.high <= most)
