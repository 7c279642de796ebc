"""The index over rooms: the cheapest that fit a need now, found without a look at the others.

What never changes of a node decides on which shelf it stands (see `matching`); how much is free, where on its shelf.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from typing import Any

from nexus.launch.core.placement.ask import Ask, Key
from nexus.launch.core.placement.matching import Match, Matches, Row
from nexus.launch.core.placement.need import Need, large_enough
from nexus.launch.core.placement.room import Room, micro
from nexus.launch.core.placement.shelf import FULL, LATE, Head, Place, Shelf, Size, Stack, cpu_class, memory_class
from nexus.launch.model import Node

SWEPT = 256  # shelves, from which on empty ones are looked for at each doubling
Found = tuple[Key, Room, float]  # the last: what the task really costs there per hour


class Index:
    """Rooms of nodes that take tasks."""

    def __init__(self) -> None:
        self._matches = Matches()
        self._open: dict[tuple[Size, Place], Shelf] = {}  # where the next room of such a place goes
        self._stale: dict[Shelf, None] = {}
        self._loose: list[Room] = []

    @property
    def shelves(self) -> list[Shelf]:
        """All of them."""
        return self._matches.shelves

    @property
    def version(self) -> int:
        """Another one, once a class of need may fit other shelves than before."""
        return self._matches.version

    # ------------------------------------------------------------------ changes

    def add(self, room: Room) -> None:
        """A room that is in no index."""
        self._matches.labels.update(room.node.labels.keys())
        self._shelve(room)

    def remove(self, room: Room) -> None:
        """Undo `add`."""
        shelf = room.shelf
        if shelf is not None:
            self._matches.labels.subtract(room.node.labels.keys())
            shelf.remove(room)
            room.loose = False
            self._note(shelf)

    def loosen(self, room: Room) -> None:
        """What is free of it will change: it gets its new place before the next question, however often it changes."""
        shelf = room.shelf
        if shelf is not None and not room.loose:
            shelf.take_out(room)
            self._note(shelf)
            room.loose = True
            self._loose.append(room)

    def _note(self, shelf: Shelf) -> None:
        if shelf.stale:
            self._stale[shelf] = None

    def _shelve(self, room: Room) -> None:
        node = room.node
        size, place = _size_of(room), self._place_of(node)
        shelf = self._open.get((size, place))
        if shelf is None or len(shelf.rooms) >= FULL:
            self._sweep()
            shelf = self._open[size, place] = self._matches.new_shelf(size, place)
        kind, capacity = shelf.kind, node.capacity
        widened = kind.cpu.widen(capacity.cpu) | kind.memory_b.widen(capacity.memory_b)
        if widened | kind.disk_b.widen(capacity.disk_b):
            self._matches.forget()
        shelf.add(room)
        self._note(shelf)

    def _sweep(self) -> None:
        """Now and then, before there is one more shelf: those that nodes left behind go."""
        count = len(self.shelves)
        if count >= SWEPT and not count & (count - 1) and sum(not shelf.rooms for shelf in self.shelves) > count // 2:
            self.rebuild()

    def _place_of(self, node: Node) -> Place:
        asked = self._matches.asked
        labels = tuple(sorted(item for item in node.labels.items() if item[0] in asked)) if asked else ()
        return Place(node.users, node.region, node.isolation, labels)

    def _ask_for(self, names: Iterable[str]) -> None:
        """Set shelves apart by labels that nobody asked for until now; one that no node has needs no shelves."""
        matches = self._matches
        new = {name for name in names if name not in matches.asked and matches.labels[name] > 0}
        if new:
            matches.asked |= new
            self.rebuild()

    def rebuild(self) -> None:
        """All shelves anew, without those that are empty."""
        rooms = [room for shelf in self.shelves for room in shelf.rooms.values()]
        self._matches.clear()
        self._open.clear()
        self._stale.clear()
        self._loose.clear()
        for room in rooms:
            room.loose = False
            self._shelve(room)

    def fresh(self) -> None:
        """Bring stacks and ladders up to date, which every question needs."""
        if self._loose:
            for room in self._loose:
                if room.loose and room.shelf is not None:
                    room.loose = False
                    room.shelf.sort_in(room)
                    self._note(room.shelf)
            self._loose.clear()
        if self._stale:
            for shelf in self._stale:
                shelf.refresh()
            self._stale.clear()

    # ------------------------------------------------------------------ what fits at all

    def match(self, need: Need) -> Match:
        """The kinds and shelves where such a task could run, were they free."""
        if need.labels:
            self._ask_for(name for name, _ in need.labels)
        return self._matches.match(need)

    def rows(self, need: Need) -> list[Row]:
        """`match`, each kind worked out."""
        return self.match(need).rows()

    def row(self, need: Need, room: Room) -> Row | None:
        """How a room's kind fits, if the room does but for what is free."""
        shelf = room.shelf
        if shelf is None:
            return None
        match = self.match(need)
        found = next((one for one in match.found if one[0] is shelf.kind and shelf.flag & one[1]), None)
        return match.row(*found) if found else None

    def suiting(self, need: Need) -> list[str]:
        """The nodes that fit, were they free."""
        return [
            room.node.id
            for row in self.rows(need)
            for shelf in row.kind.shelves
            if shelf.flag & row.bits
            for room in shelf.rooms.values()
            if not row.strict or large_enough(need, room.node.capacity)
        ]

    # ------------------------------------------------------------------ what fits now

    def first(self, ask: Ask, limit: float) -> Found | None:
        """The room that comes first in order, and costs at most `limit` per hour."""
        match = self.match(ask.need)
        self.fresh()
        best: Found | None = None
        for bound, _, ladder, (kind, bits, fitting) in _ladders(match, ask):
            if best is not None and bound > best[0][0]:
                break
            row = match.row(kind, bits, fitting)
            if row is not None:
                best = _first_of(ladder, row, ask, limit, best)
        return best

    def walk(self, ask: Ask, limit: float) -> Iterator[Found]:
        """Every room that fits now, in order, as far as somebody asks. Rooms may be taken from meanwhile (see search):
        what is yielded fitted, by what was free when its turn came; each is yielded once.
        """
        heap: list[Any] = []
        rows = self.rows(ask.need)
        self.fresh()
        for row in rows:
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
                        heappush(heap, (ask.key(room, real, row.kind), id(room), room, row, real))
                else:
                    room = what.entries[at][4]
                    yield key, room, room.node.price * row.low
                _push_entry(heap, row, ask, what, at + 1, limit)
            else:
                yield key, what, at


def _ladders(match: Match, ask: Ask) -> list[Any]:
    """The ladders of the kinds that fit, with the least that a task costs there; the cheapest first."""
    rung, need, policy = ask.rung, ask.need, ask.policy
    gpus, cpu = need.gpus, need.cpu or 1.0
    found = []
    for at, one in enumerate(match.found):
        kind = one[0]
        ladder = kind.ladders.get(rung)
        if ladder is None:
            ladder = kind.ladder(rung)
        if ladder:
            # Whatever share of a node a task takes, it takes its share of the accelerators, or of the processors.
            part = gpus / kind.gpus if gpus else min(1.0, cpu / (kind.cpu.high or cpu))
            under, wear = kind.wear
            found.append((ladder[0][0] * part * (wear if under is policy else ask.wear(kind)), at, ladder, one))
    found.sort()
    return found


def _first_of(ladder: list[Head], row: Row, ask: Ask, limit: float, best: Found | None) -> Found | None:
    """The better of `best` and the first room of one kind."""
    low, bits, wear = row.low, row.bits, ask.wear(row.kind)
    for head in ladder:
        real = head[0] * low
        if real > limit:
            break
        if best is not None:
            price = real * wear
            if price > best[0][0]:
                break
            if price == best[0][0] and row.exact(ask, head[0]) and head[1:5] > best[0][1:]:
                break
        if head[5].flag & bits:
            best = _first_on(head[5], row, ask, wear, limit, best)
    return best


def _push_rung(heap: list[Any], row: Row, ask: Ask, ladder: list[Any], at: int) -> None:
    """The next shelf of a ladder that fits, to be opened when its best room's turn has come."""
    bits = row.bits
    for position in range(at, len(ladder)):
        head = ladder[position]
        if head[5].flag & bits:
            price = head[0] * row.low * ask.wear(row.kind)
            key = (price, *head[1:5]) if row.exact(ask, head[0]) else (price,)
            heappush(heap, (key, -id(ladder), ladder, row, position))
            return


def _push_entry(heap: list[Any], row: Row, ask: Ask, stack: Stack, at: int, limit: float) -> None:
    """The next room of a stack that fits: under its key where that is known, else under its least price alone."""
    if not _may_hold(stack, ask):
        return
    wear = ask.wear(row.kind)
    entries = stack.entries
    for position in range(at, len(entries)):
        price, load, name, node_id, room = entries[position]
        if fits(room, row, ask):
            real = price * row.low
            if real > limit:
                return
            if row.exact(ask, price):
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


def copies(room: Room, row: Row, ask: Ask, most: int) -> int:
    """How many such tasks have room there, up to `most`."""
    if ask.gpus:
        most = min(most, (room.gpus & (row.fitting or -1)).bit_count() // ask.gpus)
    if ask.cpu:
        most = min(most, room.cpu // ask.cpu)
    return min(most, room.memory_b // ask.memory_b) if ask.memory_b else most


def _first_on(  # noqa: C901  (the one hot loop)
    shelf: Shelf, row: Row, ask: Ask, wear: float, limit: float, best: Found | None
) -> Found | None:
    """The better of `best` and the first room on one shelf."""
    low, gpus = row.low, ask.gpus
    for stack in shelf.stacks.values():
        if stack.gpus < gpus or not _may_hold(stack, ask):
            continue
        seen = best
        for entry in stack.entries:
            real = entry[0] * low
            if real > limit or (best is not None and real * wear > best[0][0]):
                break
            room = entry[4]
            if not fits(room, row, ask):
                continue
            if row.exact(ask, entry[0]):
                tie = row.kind.size.late + (stack.gpus if ask.gpus else 0)
                key: Key = (real * wear, tie, entry[1], entry[2], entry[3])
                if best is None or key < best[0]:
                    best = (key, room, real)
                break
            real = ask.price(room.node)
            if real <= limit:
                key = ask.key(room, real, row.kind)
                if best is None or key < best[0]:
                    best = (key, room, real)
        else:
            if best is seen:
                stack.tighten()
    return best


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
