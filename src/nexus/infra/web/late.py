"""Routes that are made when somebody first asks for them: a server that nobody asks for pages carries no page.

Making all routes of all slices was a third of a server's start, and a tenth of its memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from threading import RLock
from typing import Any, TypeVar

from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

Make = TypeVar("Make", bound=Callable[..., APIRouter])


def answers(*paths: str) -> Callable[[Make], Make]:
    """Says of a function that makes a router which paths it answers: `*` is one part, a last `**` any."""

    def mark(make: Make) -> Make:
        make.paths = paths  # type: ignore[attr-defined]
        return make

    return mark


def is_like(path: str, pattern: str) -> bool:
    """Whether a path is one of those that a pattern means."""
    parts, wanted = path.split("/"), pattern.split("/")
    if wanted[-1] == "**":
        wanted = wanted[:-1]
        parts = parts[: len(wanted)]
    return len(parts) == len(wanted) and all(want in {"*", part} for part, want in zip(parts, wanted, strict=True))


class LateApp(FastAPI):
    """An application that makes its routers late. A path that none has claimed is looked for in all of them."""

    def __init__(self, **named: Any) -> None:
        self._late: list[_Late] = []
        self._opening = RLock()  # the schema is made in a thread
        super().__init__(**named)

    def include_late(self, make: Callable[[], APIRouter], paths: Sequence[str]) -> None:
        """Include what `make` gives when one of the `paths` is first asked for."""
        self._late.append(_Late(make, paths))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in {"http", "websocket"}:
            asked = [late for late in self._late if late.answers(scope["path"])]
            self._open(asked or self._late)
        await super().__call__(scope, receive, send)

    @property
    def routes(self) -> list[BaseRoute]:
        """Every route that there is."""
        self._open(self._late)
        return super().routes

    def _open(self, asked: Iterable[_Late]) -> None:
        for late in asked:
            if late.is_open:
                continue
            with self._opening:
                if not late.is_open:
                    self.include_router(late.make())
                    late.is_open = True


@dataclass(slots=True)
class _Late:
    make: Callable[[], APIRouter]
    paths: Sequence[str]
    is_open: bool = False

    def answers(self, path: str) -> bool:
        return any(is_like(path, pattern) for pattern in self.paths)
