"""Coming in and going out: a one-time link, or a name and password, becomes a session cookie."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from nexus.access.core.passwords import LONGEST
from nexus.infra.web.auth import SESSION_COOKIE, Viewer, address_of, limit_logins, refuse_cross_site
from nexus.kernel.errors import DeniedError
from nexus.studio.page import Site

_USED = "This link was already used, or is too old. Get a new one; each works once."
_WEEK_S = 7 * 24 * 3600


def routes(router: APIRouter, site: Site) -> None:
    """`/login`, `/login/{code}`, `/logout`."""
    sessions, render = site.services.sessions, site.render

    async def enter(request: Request, prove: Awaitable[str], said: str, target: str) -> Response:
        try:
            session = await prove
        except DeniedError:
            return HTMLResponse(render.page(request, "login.html", "", said=said, next=target), 401)
        response = RedirectResponse(target, 303)
        secure = request.url.scheme == "https"
        response.set_cookie(
            SESSION_COOKIE, session, max_age=_WEEK_S, httponly=True, samesite="lax", secure=secure, path="/"
        )
        return response

    def exchanged(request: Request, code: str) -> Awaitable[str]:
        return sessions.exchange(code.strip(), address_of(request))

    @router.get("/login")
    async def ask(request: Request, next: str = "/") -> HTMLResponse:  # noqa: A002 the query's own name
        return HTMLResponse(render.page(request, "login.html", "", said="", next=local(next)))

    @router.post("/login")
    async def typed(
        request: Request,
        code: Annotated[str, Form(max_length=200)] = "",
        user: Annotated[str, Form(max_length=100)] = "",
        password: Annotated[str, Form(max_length=LONGEST)] = "",
        next: Annotated[str, Form()] = "/",  # noqa: A002
    ) -> Response:
        limit_logins(request)
        refuse_cross_site(request)
        if user:
            proof = sessions.log_in(user.strip(), password, address_of(request))
            return await enter(request, proof, "This name and password do not fit.", local(next))
        return await enter(request, exchanged(request, code.rsplit("/", 1)[-1]), _USED, local(next))

    @router.get("/login/{code}")
    async def linked(request: Request, code: str, next: str = "/") -> Response:  # noqa: A002
        limit_logins(request)
        return await enter(request, exchanged(request, code), _USED, local(next))

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
