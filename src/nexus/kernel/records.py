"""Versioned records: the one port through which control planes remember.

A control loop loads records, decides (pure), and applies what it decided in one transaction that fails whole if
any record changed meanwhile. Slices declare their kinds here as data; memory, SQLite and PostgreSQL implement the
port, under one conformance suite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from operator import attrgetter
from typing import Any, Generic, Protocol, TypeVar

from nexus.kernel.events import Event

Value = str | int | float | bool | None
Where = Mapping[str, Value | Sequence[Value]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What every stored thing has. `version` is the one last read; 0 means not stored yet."""

    id: str
    project: str
    created: float
    version: int = 0


R = TypeVar("R", bound=Record)


@cache
def _fields(kind: Any) -> tuple[Callable[[Record], tuple[object, ...]], tuple[Callable[..., None], ...]]:
    names = [field.name for field in fields(kind)]
    return attrgetter(*names), tuple(getattr(kind, name).__set__ for name in names)


def altered(record: R, **values: object) -> R:
    """As `dataclasses.replace`, in a quarter of the time; what would be equal is `record` itself.

    Loops change records all the time, most of them to what they are. Raises AttributeError for a name that is no field.
    """
    kind: Any = type(record)
    news = [name for name, value in values.items() if getattr(record, name) != value]
    if not news:
        return record
    get, setters = _fields(kind)
    copy: R = object.__new__(kind)
    for put, value in zip(setters, get(record), strict=True):
        put(copy, value)
    for name in news:
        getattr(kind, name).__set__(copy, values[name])
    return copy


@dataclass(frozen=True)
class Kind(Generic[R]):
    """A table: its name, the type of its rows, and the attributes that queries may filter by.

    `unique` names one group of indexed attributes of which no two records may share all values.

    `hot` says which records a server keeps in memory, so that its loops never ask the database for them: those that it
    would find (`{}`: all). Equal values of the attributes in `shared` are kept there once.

    `paged`: people leaf through a project's newest ones, however many there are.
    """

    name: str
    type: type[R]
    index: tuple[str, ...] = ()
    unique: tuple[str, ...] = ()
    hot: Where | None = None
    shared: tuple[str, ...] = ()
    paged: bool = False


@dataclass(frozen=True)
class Drop:
    """Remove a record, if it still has this version."""

    kind: Kind[Any]
    record: Record


Change = tuple[Kind[Any], Record] | Drop
Listener = Callable[[Sequence[Change], Sequence[Event]], None]


class Records(Protocol):
    """Remember records and events."""

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with each transaction from now on, until the returned function is called.

        It hears records as stored (and events without their `seq`), in the order of commits, before the `apply` that
        made them returns. It must neither wait nor fail.
        """
        ...

    async def get(self, kind: Kind[R], record_id: str) -> R | None:
        """The record, or None."""
        ...

    async def find(
        self,
        kind: Kind[R],
        where: Where | None = None,
        *,
        limit: int = 1000,
        newest: bool = False,
        before: R | None = None,
    ) -> list[R]:
        """Records whose indexed attributes equal the given values (a sequence: any of up to 30,000; `project` too).

        Ordered by (created, id), or backwards with `newest`; `before` continues after that record in this order.
        """
        ...

    async def apply(self, *changes: Change, events: Sequence[Event] = ()) -> None:
        """Store every change and append every event, or nothing at all.

        A record of version 0 must not exist yet; any other must still have its version. Stored versions are one
        higher. Raises ConflictError (also when a `unique` group is already taken).
        """
        ...

    async def events(
        self,
        *,
        after: int = 0,
        before: int | None = None,
        subject: str | None = None,
        project: str | None = None,
        actor: str | None = None,
        since: float | None = None,
        limit: int = 1000,
        newest: bool = False,
    ) -> list[Event]:
        """Events with a `seq` above `after` (and below `before`), oldest first; or the newest first."""
        ...

    async def forget_events(self, through: int) -> None:
        """Forget every event up to and with this `seq`."""
        ...
