"""Chat: talk to any endpoint that speaks OpenAI's API."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from nexus.infra.web.auth import SESSION_COOKIE, Viewer
from nexus.infra.web.bodies import read_body
from nexus.kernel.errors import UnavailableError
from nexus.studio.page import Page, Site

_BODY_B = 2_000_000


def _routes(router: APIRouter, site: Site) -> None:
    deploy, relay, render = site.services.deploy, site.services.relay, site.render

    @router.get("/chat")
    async def chat(request: Request, who: Viewer, model: str = "") -> HTMLResponse:
        endpoints = [view for view in await deploy.list(who.project) if view.openai] if deploy else []
        endpoints.sort(key=lambda view: (view.name != model, view.ready == 0, view.name))
        return HTMLResponse(render.page(request, "chat.html", "chat", endpoints=endpoints))

    @router.post("/chat/completions")
    async def complete(request: Request, _: Viewer) -> Response:
        if relay is None:
            raise UnavailableError("this server has no gateway", hint="Start it with one: nexus up")
        body = await read_body(request, _BODY_B)
        token = request.headers.get("authorization", "").removeprefix("Bearer ") or request.cookies.get(
            SESSION_COOKIE, ""
        )
        return await relay.post("/v1/chat/completions", body, token)


page = Page("Chat", "/chat", "chat", _routes)
