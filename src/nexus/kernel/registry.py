"""Extension tables: `{"name": "module:attribute"}` for ours, an entry-point group of the same name for outsiders."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import import_module
from typing import Generic, TypeVar, cast

from nexus.kernel.errors import NotFoundError

T = TypeVar("T")


class Registry(Generic[T]):
    """A family of things by name, imported only when asked for. A wrong name answers with those that exist."""

    def __init__(self, group: str, table: Mapping[str, str]) -> None:
        self.group = group
        self.table = dict(table)

    def names(self) -> list[str]:
        """Every name, ours first, then outsiders'."""
        return list(self._targets)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self.table or name in self._targets

    def get(self, name: str) -> T:
        """The thing called `name`. Raises NotFoundError with the nearest names."""
        target = self.table.get(name) or self._targets.get(name)
        if target is None:
            near = difflib.get_close_matches(name, self.names(), n=1)
            hint = f"Did you mean {near[0]}? " if near else ""
            raise NotFoundError(f"{self.group} has no {name!r}", hint=f"{hint}It has: {', '.join(self.names())}.")
        module, _, attribute = target.partition(":")
        return cast("T", getattr(import_module(module), attribute))

    @cached_property
    def _targets(self) -> dict[str, str]:
        """Looked up once: what is installed does not change while we run, and asking costs milliseconds."""
        from importlib import metadata  # 20 ms that a known name need not wait for

        outside = {point.name: point.value for point in metadata.entry_points(group=self.group)}
        return outside | self.table if outside else self.table
