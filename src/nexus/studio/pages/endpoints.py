"""Endpoints: replicas, revisions, requests, and the way back."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from nexus.infra.web.auth import Member, Viewer
from nexus.kernel.errors import NotFoundError
from nexus.studio.page import Page, Site, is_fragment
from nexus.studio.pages.run import may_change


def _routes(router: APIRouter, site: Site) -> None:
    deploy, render = site.services.deploy, site.render

    @router.get("/endpoints")
    async def listed(request: Request, who: Viewer) -> HTMLResponse:
        endpoints = await deploy.list(who.project) if deploy else []
        if is_fragment(request):
            return HTMLResponse(render.fragment("_endpoints.html", endpoints=endpoints))
        return HTMLResponse(render.page(request, "endpoints.html", "endpoints", endpoints=endpoints))

    @router.get("/endpoints/{name}")
    async def show(request: Request, who: Viewer, name: str) -> HTMLResponse:
        if deploy is None:
            raise NotFoundError(f"no endpoint {name}", hint="This server has no gateway.")
        nodes = {node.id: node.name for node in await site.services.launch.nodes(who)}
        values = {"endpoint": await deploy.show(who.project, name), "nodes": nodes, "may_change": may_change(who)}
        if is_fragment(request):
            return HTMLResponse(render.fragment("_endpoint.html", **values))
        return HTMLResponse(render.page(request, "endpoint.html", "endpoints", **values))

    @router.post("/endpoints/{name}/rollback")
    async def roll_back(who: Member, name: str, to: Annotated[int, Form()] = 0) -> RedirectResponse:
        if deploy is None:
            raise NotFoundError(f"no endpoint {name}")
        await deploy.rollback(who.project, name, to, user=who.subject)
        return RedirectResponse(f"/endpoints/{name}", 303)


page = Page("Endpoints", "/endpoints", "endpoints", _routes)
