"""A page of Studio: its place in the menu, and the frame that every answer of a page goes through."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute

from nexus.kernel.errors import DeniedError, ForbiddenError, NexusError, UsageError
from nexus.studio.ports import Services
from nexus.studio.render import Renderer

# What a browser may do with our pages: run and show what came from us, and nothing else.
HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


@dataclass(frozen=True)
class Site:
    """What every page is made with."""

    services: Services
    render: Renderer


@dataclass(frozen=True)
class Page:
    """One page: `routes` adds its routes to a router whose answers go through the frame."""

    title: str
    path: str
    icon: str
    routes: Callable[[APIRouter, Site], None]
    menu: bool = True


def framed(render: Renderer) -> type[APIRoute]:
    """A route class: safe headers on every answer, and errors as pages, not as JSON."""

    class Framed(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def framed_handle(request: Request) -> Response:
                try:
                    response = await handle(request)
                except RequestValidationError as error:
                    problems = "; ".join(str(problem["msg"]) for problem in error.errors())
                    response = _error_page(render, request, UsageError(problems, hint="Check the address or the form."))
                except NexusError as error:
                    response = _error_page(render, request, error)
                for name, value in HEADERS.items():
                    response.headers.setdefault(name, value)
                if "cache-control" not in response.headers:
                    response.headers["cache-control"] = "no-store"
                return response

            return framed_handle

    return Framed


def _error_page(render: Renderer, request: Request, error: NexusError) -> Response:
    if isinstance(error, DeniedError) and not isinstance(error, ForbiddenError):
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        target = "/login" if wanted == "/" or request.method != "GET" else f"/login?next={quote(wanted, safe='/')}"
        if is_fragment(request):  # htmx swaps bodies; only this header makes it leave the page
            return Response(headers={"hx-redirect": target})
        return RedirectResponse(target, 303)
    if is_fragment(request):
        return HTMLResponse(render.fragment("_error.html", error=error), 200)
    return HTMLResponse(render.page(request, "error.html", "", error=error), error.status)


def is_fragment(request: Request) -> bool:
    """Whether htmx asks for a part of a page."""
    return request.headers.get("hx-request-type") == "partial"
