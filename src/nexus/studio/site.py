"""All of Studio as one router: log-in, static files, and every page of the table."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response

from nexus.kernel.errors import NotFoundError
from nexus.studio import login
from nexus.studio.page import Page, Site, framed
from nexus.studio.pages import PAGES
from nexus.studio.ports import Services
from nexus.studio.render import STATIC, Renderer

_FOREVER = "public, max-age=31536000, immutable"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def router(services: Services) -> APIRouter:
    """Studio over these services. Pages take their identity from `app.state.authenticate`, as the API does."""
    pages: dict[str, Page] = {name: PAGES.get(name) for name in PAGES}
    render = Renderer(services.clock, lambda: [(name, page) for name, page in pages.items() if page.menu])
    site = Site(services, render)
    routes = APIRouter(route_class=framed(render), include_in_schema=False)
    _static(routes)
    login.routes(routes, site)
    for page in pages.values():
        page.routes(routes, site)
    return routes


def _static(routes: APIRouter) -> None:
    @routes.get("/static/{version}/{name:path}")
    async def static(version: str, name: str) -> Response:
        file = (STATIC / name.replace("\0", "")).resolve()
        if not file.is_relative_to(STATIC) or not file.is_file() or file.suffix not in _TYPES:
            raise NotFoundError("no such file", hint="Were the web assets fetched? make assets")
        fresh = "no-cache" if version == "-" else _FOREVER
        return FileResponse(file, media_type=_TYPES[Path(name).suffix], headers={"cache-control": fresh})
