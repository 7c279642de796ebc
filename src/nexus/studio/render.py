"""Pages from templates: one Jinja environment with our words for time, size and money."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from nexus.kernel.clock import Clock
from nexus.kernel.identity import Principal
from nexus.studio import words

HERE = Path(__file__).parent
STATIC = HERE / "static"


class Renderer:
    """Templates with the menu, the clock and the assets' fingerprint known."""

    def __init__(self, clock: Clock, menu: Callable[[], list[tuple[str, Any]]]) -> None:
        self._menu = menu
        self.version = fingerprint()
        self.jinja = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.jinja.filters |= {
            "bytes": words.size,
            "seconds": words.duration,
            "money": words.money,
            "number": words.number,
            "short_id": words.short_id,
            "ago": lambda at: words.ago(clock.now() - at) if at else "—",
            "iso": words.iso,
            "clock": words.clock_time,
        }
        self.jinja.globals |= {"asset": self.asset, "icon": icon, "now": clock.now}

    def asset(self, name: str) -> str:
        """The address of a static file; it changes when any of them does, so browsers may keep it for ever."""
        return f"/static/{self.version}/{name}"

    def fragment(self, template: str, /, **values: Any) -> str:
        """A part of a page."""
        return self.jinja.get_template(template).render(**values)

    def page(self, request: Request, template: str, here: str, /, **values: Any) -> str:
        """A whole page. `here` is its name in the menu."""
        who: Principal | None = getattr(request.state, "principal", None)
        return self.jinja.get_template(template).render(
            menu=self._menu() if who else [], here=here, who=who, path=request.url.path, **values
        )


def icon(name: str) -> Markup:
    """An icon of the sprite in icons.svg; decoration, so screen readers skip it."""
    return Markup('<svg class="icon" aria-hidden="true"><use href="/static/-/icons.svg#{}"/></svg>').format(
        escape(name)
    )


def fingerprint() -> str:
    """Twelve hex digits over every static file."""
    digest = hashlib.sha256()
    for file in sorted(STATIC.rglob("*")):
        if file.is_file():
            digest.update(file.name.encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
