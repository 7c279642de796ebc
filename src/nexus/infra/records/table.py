"""Records of one kind in memory, found by their indexed attributes."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic

import msgspec

from nexus.kernel.records import Kind, R, Value, Where

_FEW = 100  # answers shorter than this are picked instead of sorting everything
_SPARE = 1000  # shared values that nobody holds any more, before they are looked for


class Table(Generic[R]):
    """Rows by id. An attribute gets its index when a query first asks for it, so that the others cost no memory."""

    def __init__(self, kind: Kind[R]) -> None:
        self.kind = kind
        self.rows: dict[str, R] = {}
        self._indexes: dict[str, dict[str | None, set[str]]] = {}
        self._shared: dict[Any, Any] = {}

    def put(self, record: R) -> None:
        """Keep the record, which nobody else may hold yet, in place of the one with its id."""
        old = self.rows.get(record.id)
        self._share(record, old)
        self.rows[record.id] = record
        for name, index in self._indexes.items():
            before, now = as_text(getattr(old, name)) if old else None, as_text(getattr(record, name))
            if old is None or before != now:
                if old is not None:
                    _take_out(index, before, record.id)
                index.setdefault(now, set()).add(record.id)

    def pop(self, record_id: str) -> None:
        """Forget a record, if it is here."""
        old = self.rows.pop(record_id, None)
        if old is not None:
            for name, index in self._indexes.items():
                _take_out(index, as_text(getattr(old, name)), record_id)

    def find(
        self, where: Where | None = None, *, limit: int = 1000, newest: bool = False, before: R | None = None
    ) -> list[R]:
        """As `kernel.records.Records.find`."""
        wanted = {name: texts(value) for name, value in (where or {}).items()}
        rows: Iterable[R] = self._matching(wanted)
        if before is not None:
            mark = in_order(before)
            rows = (row for row in rows if (in_order(row) < mark if newest else in_order(row) > mark))
        if limit < _FEW:
            return (heapq.nlargest if newest else heapq.nsmallest)(limit, rows, key=in_order)
        return sorted(rows, key=in_order, reverse=newest)[:limit]

    def _matching(self, wanted: Mapping[str, frozenset[str | None]]) -> Iterator[R]:
        """The rows that have the wanted values, through the index that leaves fewest to look at."""
        if not wanted:
            yield from self.rows.values()
            return
        sizes = {name: sum(len(self._index(name).get(value, ())) for value in wanted[name]) for name in wanted}
        best = min(sizes, key=sizes.__getitem__)
        others = [(name, values) for name, values in wanted.items() if name != best]
        for value in wanted[best]:
            for record_id in self._index(best).get(value, ()):
                row = self.rows[record_id]
                if all(as_text(getattr(row, name)) in values for name, values in others):
                    yield row

    def _index(self, name: str) -> dict[str | None, set[str]]:
        index = self._indexes.get(name)
        if index is None:
            index = self._indexes[name] = {}
            for row in self.rows.values():
                index.setdefault(as_text(getattr(row, name)), set()).add(row.id)
        return index

    def _share(self, record: R, old: R | None) -> None:
        """Let equal values of the kind's shared attributes be one object."""
        for name in self.kind.shared:
            value = getattr(record, name)
            if old is not None and getattr(old, name) is value:
                continue
            key = value if isinstance(value, str) else msgspec.json.encode(value, order="deterministic")
            same = self._shared.setdefault((name, key), value)
            if same is not value:
                object.__setattr__(record, name, same)
        if len(self._shared) > 2 * len(self.rows) * len(self.kind.shared) + _SPARE:
            held = {id(getattr(row, name)) for row in self.rows.values() for name in self.kind.shared}
            self._shared = {key: value for key, value in self._shared.items() if id(value) in held}


def as_text(value: Any) -> str | None:
    """Indexed attributes are compared as text, whatever their type: equality is all that queries ask."""
    if value is None or type(value) is str:
        return value  # enums are text too, but their own type
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def texts(value: Value | Sequence[Value]) -> frozenset[str | None]:
    """The values that a query asks for, as text."""
    if value is None or isinstance(value, str | int | float | bool):
        return frozenset((as_text(value),))
    return frozenset(map(as_text, value))


def in_order(record: Any) -> tuple[float, str]:
    """Records are ordered by age."""
    return (record.created, record.id)


def _take_out(index: dict[str | None, set[str]], value: str | None, record_id: str) -> None:
    held = index[value]
    held.discard(record_id)
    if not held:
        del index[value]
