"""What the Job Store needs of the rest of the house."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from nexus.kernel.identity import Principal
from nexus.launch.model import Placement
from nexus.store.model import Launched, Prepared, Template


class Shelf(Protocol):
    """Where templates are kept."""

    def names(self) -> list[str]:
        """Every template, in the order in which they are shown."""
        ...

    def get(self, name: str) -> Template:
        """One template. Raises NotFoundError, or FileError when its files are wrong."""
        ...


class Launcher(Protocol):
    """From a template and its overrides to a run."""

    async def prepare(self, who: Principal, template: Template, sets: Sequence[str]) -> Prepared:
        """Read the job with the overrides, pack and keep its folder, compile. Raises FileError, UsageError."""
        ...

    async def place(self, who: Principal, prepared: Prepared) -> Placement:
        """Where it would run now."""
        ...

    async def names(self, who: Principal) -> Mapping[str, str]:
        """Node ids, and what people call them."""
        ...

    async def submit(self, who: Principal, prepared: Prepared) -> Launched:
        """Launch it."""
        ...
