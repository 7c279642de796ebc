"""Which shelves a class of need fits, were they free: as bits, worked out once for each class.

A part of a need that stands alone (a region glob, a label, an image) is compared with each shelf once, and remembered
as one whole number with a bit for each shelf. A class of need is then a few of those, and-ed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from nexus.launch.core.placement.ask import Ask
from nexus.launch.core.placement.need import Need, gpu_fits, share_of
from nexus.launch.core.placement.shelf import Kind, Place, Shelf, Size
from nexus.launch.model import Gpu

ANY_MEMORY = (None, None)
REMEMBERED = 8192  # classes of need, and parts of them, that are remembered at once


@dataclass(slots=True)
class Row:
    """A kind that fits a class of need."""

    kind: Kind
    bits: int  # its shelves that fit
    low: float  # the least share of a node's price that a task pays; exactly that, if `even`
    even: bool
    strict: bool  # some nodes of the kind are too small or too large for good: each is compared
    fitting: int  # its accelerators that fit, as bits; 0 when all do

    def exact(self, ask: Ask, price: float) -> bool:
        """Whether nodes of this price come in the order of their stacks: a share of nothing is nothing, on any node."""
        return ask.natural and (self.even or not price)


class Family:
    """The kinds with the same accelerators."""

    __slots__ = ("kinds", "models")

    def __init__(self, gpus: tuple[Gpu, ...]) -> None:
        self.kinds: list[Kind] = []
        self.models = {gpu: sum(1 << at for at, one in enumerate(gpus) if one == gpu) for gpu in gpus}

    def fitting(self, need: Need) -> int:
        """Which of them fit, as bits."""
        fits = (bits for gpu, bits in self.models.items() if gpu_fits(need.gpu_names, need.gpu_memory_b, gpu))
        return sum(fits)


class Match:
    """The kinds that may fit a class of need. How one does is worked out when a search comes to it."""

    __slots__ = ("_rows", "found", "need", "words")

    def __init__(self, need: Need, found: list[tuple[Kind, int, int]]) -> None:
        self.need = need
        self.found = found  # kinds, with the bits of their shelves and accelerators that fit
        self._rows: dict[Kind, Row | None] = {}
        self.words: dict[tuple[Shelf, str | None], str] = {}  # why a shelf does not fit, for tasks in this image

    def row(self, kind: Kind, bits: int, fitting: int) -> Row | None:
        """How a found kind fits; None when none of its nodes is of the right size."""
        if kind in self._rows:
            return self._rows[kind]
        row = self._rows[kind] = _row(self.need, kind, bits, fitting)
        return row

    def rows(self) -> list[Row]:
        """Every kind that fits."""
        return [row for kind, bits, fitting in self.found if (row := self.row(kind, bits, fitting)) is not None]


class Matches:
    """All kinds and shelves, and what is remembered of how classes of need fit them."""

    def __init__(self) -> None:
        self.shelves: list[Shelf] = []
        self.asked: set[str] = set()  # labels that some need named: only these set shelves apart
        self.labels: Counter[str] = Counter()  # labels that nodes have
        self._kinds: dict[Size, Kind] = {}
        self._families: dict[tuple[Gpu, ...], Family] = {}
        self._names: dict[str, list[Family]] = {}
        self._suits: dict[Any, list[tuple[int, list[Kind]]]] = {}
        self._masks: dict[tuple[str, Any], int] = {}
        self._matches: dict[Need, Match] = {}
        self.version = 0  # counts what makes a match another one

    def new_shelf(self, size: Size, place: Place) -> Shelf:
        """One more, empty."""
        kind = self._kinds.get(size)
        if kind is None:
            kind = self._kinds[size] = Kind(size)
            if size.gpus not in self._families:
                self._families[size.gpus] = Family(size.gpus)
            self._families[size.gpus].kinds.append(kind)
            self._suits.clear()
            self._names.clear()
        shelf = Shelf(kind, place, 1 << len(self.shelves))
        kind.bits |= shelf.flag
        kind.shelves.append(shelf)
        self.shelves.append(shelf)
        for (what, value), mask in self._masks.items():
            if _belongs(what, value, place):
                self._masks[what, value] = mask | shelf.flag
        self.forget()
        return shelf

    def forget(self) -> None:
        """What was worked out for classes of need: the shelves, or a kind's sizes, changed."""
        self.version += 1
        self._matches.clear()

    def clear(self) -> None:
        """No kind and no shelf."""
        self.version += 1
        self.shelves = []
        for known in (self._kinds, self._families, self._names, self._suits, self._masks, self._matches):
            known.clear()

    def match(self, need: Need) -> Match:
        """How a class of need fits. Labels that shelves are not set apart by are taken for labels that no node has."""
        match = self._matches.get(need)
        if match is None:
            if len(self._matches) >= REMEMBERED:
                self._matches.clear()
            match = self._matches[need] = Match(need, self._found(need))
        return match

    def _found(self, need: Need) -> list[tuple[Kind, int, int]]:
        mask = self._mask("regions", need.regions) if need.regions else -1
        if need.project:
            mask &= self._mask("project", need.project)
        if need.isolation:
            mask &= self._mask("isolation", need.isolation)
        for label in need.labels:
            mask &= self._mask("label", label)
        spot = need.spot
        found = []
        for fitting, kinds in self._suiting(need):
            for kind in kinds:
                bits = kind.bits & mask
                if bits and (spot == "auto" or kind.spot == (spot == "only")):
                    found.append((kind, bits, fitting if kind.mixed else 0))
        return found

    def _suiting(self, need: Need) -> list[tuple[int, list[Kind]]]:
        """The kinds with enough accelerators that fit, and which those are, as bits."""
        if not need.gpus:
            return [(0, family.kinds) for family in self._families.values()]
        asked = (need.gpu_names, need.gpu_memory_b)
        pairs = self._suits.get(asked)
        if pairs is None:
            if len(self._suits) >= REMEMBERED:
                self._suits.clear()
            every = ((family.fitting(need), family.kinds) for family in self._named(need))
            pairs = self._suits[asked] = [pair for pair in every if pair[0]]
        return [pair for pair in pairs if pair[0].bit_count() >= need.gpus]

    def _named(self, need: Need) -> Iterable[Family]:
        """Those among whose accelerators some have a name that fits."""
        if not need.gpu_names:
            return self._families.values()
        found: dict[Family, None] = {}
        for name in need.gpu_names:
            families = self._names.get(name)
            if families is None:
                if len(self._names) >= REMEMBERED:
                    self._names.clear()
                every = self._families.values()
                families = [one for one in every if any(gpu_fits((name,), ANY_MEMORY, gpu) for gpu in one.models)]
                self._names[name] = families
            found |= dict.fromkeys(families)
        return found

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


def _belongs(what: str, value: Any, place: Place) -> bool:
    """Whether nodes of this place have what a need asks for."""
    if what == "regions":
        return any(fnmatchcase(place.region, glob) for glob in value)
    if what == "label":
        return value in place.labels
    if what == "isolation":
        return value in place.isolation
    return place.project in {value, ""}


def _row(need: Need, kind: Kind, bits: int, fitting: int) -> Row | None:
    """How a kind fits a need; None when none of its nodes could."""
    size, cpu, memory_b, disk_b = kind.size, kind.cpu, kind.memory_b, kind.disk_b
    if cpu.high < need.cpu or memory_b.high < need.memory_b or disk_b.high < need.disk_b:
        return None
    strict = cpu.low < need.cpu or memory_b.low < need.memory_b or disk_b.low < need.disk_b
    for span, most in ((cpu, need.cpu_most), (memory_b, need.memory_most_b), (disk_b, need.disk_most_b)):
        if most is not None:
            if span.low > most:
                return None
            strict = strict or span.high > most
    gpus = len(size.gpus)
    low = share_of(need, gpus, cpu.high, memory_b.high)
    even = (cpu.low == cpu.high and memory_b.low == memory_b.high) or low == share_of(need, gpus, cpu.low, memory_b.low)
    return Row(kind, bits, low, even, strict, fitting)
