"""Chat: talk to any endpoint that speaks OpenAI's API."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from nexus.infra.web.auth import Viewer
from nexus.studio.page import Page, Site


def _routes(router: APIRouter, site: Site) -> None:
    deploy, render = site.services.deploy, site.render

    @router.get("/chat")
    async def chat(request: Request, who: Viewer, model: str = "") -> HTMLResponse:
        endpoints = [view for view in await deploy.list(who.project) if view.openai] if deploy else []
        endpoints.sort(key=lambda view: (view.name != model, view.ready == 0, view.name))
        return HTMLResponse(render.page(request, "chat.html", "chat", endpoints=endpoints))


page = Page("Chat", "/chat", "chat", _routes)
