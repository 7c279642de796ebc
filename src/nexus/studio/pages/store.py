"""The Job Store: a card for each template, and a form made from its parameters."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from nexus.infra.web.auth import Member, Viewer
from nexus.kernel.errors import NotFoundError, UsageError
from nexus.studio.page import Page, Site, is_fragment
from nexus.studio.pages.run import may_change
from nexus.studio.ports import Store

_MOST_FIELDS = 100


async def _given(request: Request) -> dict[str, str]:
    """The form's answers. A box that is not ticked is not sent, so each flag has a hidden `false` before it."""
    async with request.form(max_fields=_MOST_FIELDS, max_files=0) as form:
        return {name: str(form.getlist(name)[-1]) for name in form}


async def _preview(store: Store, who: Any, name: str, given: dict[str, str]) -> dict[str, Any]:
    try:
        return {"preview": await store.preview(who, name, given), "wrong": {}, "error": None}
    except UsageError as error:
        wrong = error.details.get("fields", {})
        return {"preview": None, "wrong": wrong, "error": None if wrong else error}


def _routes(router: APIRouter, site: Site) -> None:
    render = site.render

    def shelf() -> Store:
        if site.services.store is None:
            raise NotFoundError("this server has no Job Store", hint="nexus launch takes any job file.")
        return site.services.store

    @router.get("/store")
    async def listed(request: Request, who: Viewer) -> HTMLResponse:
        return HTMLResponse(render.page(request, "store.html", "store", templates=shelf().list(who)))

    @router.get("/store/{name}")
    async def form(request: Request, who: Viewer, name: str) -> HTMLResponse:
        template = shelf().show(who, name)
        values = {
            "template": template,
            "given": {},
            "allowed": may_change(who),
            **await _preview(shelf(), who, name, {}),
        }
        return HTMLResponse(render.page(request, "template.html", "store", **values))

    @router.post("/store/{name}/preview")
    async def preview(request: Request, who: Viewer, name: str) -> HTMLResponse:
        values = await _preview(shelf(), who, name, await _given(request))
        return HTMLResponse(render.fragment("_preview.html", **values))

    @router.post("/store/{name}")
    async def launch(request: Request, who: Member, name: str) -> Response:
        given = await _given(request)
        try:
            made = await shelf().launch(who, name, given)
        except UsageError as error:
            wrong = error.details.get("fields", {})
            values = {"template": shelf().show(who, name), "given": given, "allowed": True, "preview": None}
            page = render.page(request, "template.html", "store", wrong=wrong, error=None if wrong else error, **values)
            return HTMLResponse(page, error.status)
        target = f"/endpoints/{made.id}" if made.kind == "endpoint" else f"/runs/{made.id}"
        return Response(headers={"hx-redirect": target}) if is_fragment(request) else RedirectResponse(target, 303)


page = Page("Job Store", "/store", "store", _routes)
