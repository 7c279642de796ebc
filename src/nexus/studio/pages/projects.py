"""Projects: which ones there are for who is logged in, and changing between them."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from nexus.infra.web.auth import PROJECT_COOKIE, Viewer
from nexus.kernel.errors import NotFoundError
from nexus.studio.page import Page, Site

_YEAR_S = 365 * 24 * 3600


def _routes(router: APIRouter, site: Site) -> None:
    sessions, render = site.services.sessions, site.render

    @router.get("/projects")
    async def projects(request: Request, who: Viewer) -> HTMLResponse:
        return HTMLResponse(render.page(request, "projects.html", "projects", projects=await sessions.projects(who)))

    @router.post("/projects/{name}")
    async def use(request: Request, who: Viewer, name: str) -> Response:
        if name not in {known for known, _ in await sessions.projects(who)}:
            raise NotFoundError(f"no such project: {name}", hint="The page lists yours.")
        response = RedirectResponse("/", 303)
        secure = request.url.scheme == "https"
        response.set_cookie(
            PROJECT_COOKIE, name, max_age=_YEAR_S, httponly=True, samesite="lax", secure=secure, path="/"
        )
        return response


page = Page("Projects", "/projects", "models", _routes, menu=False)
