"""Coming in and going out: a one-time link becomes a session cookie."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from nexus.infra.web.auth import SESSION_COOKIE, Viewer
from nexus.kernel.errors import DeniedError
from nexus.studio.page import Site

_WEEK_S = 7 * 24 * 3600


def routes(router: APIRouter, site: Site) -> None:
    """`/login`, `/login/{code}`, `/logout`."""
    sessions, render = site.services.sessions, site.render

    async def enter(request: Request, code: str, target: str) -> Response:
        try:
            session = await sessions.exchange(code.strip())
        except DeniedError:
            said = "This link was already used, or is too old. Get a new one; each works once."
            return HTMLResponse(render.page(request, "login.html", "", said=said, next=target), 401)
        response = RedirectResponse(target, 303)
        secure = request.url.scheme == "https"
        response.set_cookie(
            SESSION_COOKIE, session, max_age=_WEEK_S, httponly=True, samesite="lax", secure=secure, path="/"
        )
        return response

    @router.get("/login")
    async def ask(request: Request, next: str = "/") -> HTMLResponse:  # noqa: A002 the query's own name
        return HTMLResponse(render.page(request, "login.html", "", said="", next=local(next)))

    @router.post("/login")
    async def typed(
        request: Request,
        code: Annotated[str, Form(max_length=200)],
        next: Annotated[str, Form()] = "/",  # noqa: A002
    ) -> Response:
        return await enter(request, code.rsplit("/", 1)[-1], local(next))

    @router.get("/login/{code}")
    async def linked(request: Request, code: str, next: str = "/") -> Response:  # noqa: A002
        return await enter(request, code, local(next))

    @router.post("/logout")
    async def leave(request: Request, _: Viewer) -> Response:
        await sessions.end(request.cookies.get(SESSION_COOKIE, ""))
        response = RedirectResponse("/login", 303)
        response.delete_cookie(SESSION_COOKIE, path="/")
        return response


def local(target: str) -> str:
    """`target` if it is a path on this server, else `/`: a link must not send a fresh session elsewhere."""
    safe = target.startswith("/") and not target.startswith(("//", "/\\")) and "\n" not in target
    return target if safe else "/"
