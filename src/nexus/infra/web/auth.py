"""Who calls a route. Every route takes one of the dependencies below; a test walks the app and proves it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request

from nexus.kernel.errors import DeniedError, ForbiddenError
from nexus.kernel.identity import Principal, Role

Authenticate = Callable[[str], Awaitable[Principal | None]]  # a token or session -> whose it is

SESSION_COOKIE = "nexus_session"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


async def caller(request: Request) -> Principal:
    """The identity behind the request's bearer token or session cookie. Raises DeniedError."""
    authenticate: Authenticate = request.app.state.authenticate
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        token = request.cookies.get(SESSION_COOKIE, "")
        if token:
            _refuse_cross_site(request)
    principal = await authenticate(token.strip()) if token else None
    if principal is None:
        what = "this token is not known, or was revoked" if token else "no token was sent"
        raise DeniedError(what, hint="Log in: nexus login URL TOKEN, or set NEXUS_TOKEN.")
    request.state.principal = principal
    return principal


def _refuse_cross_site(request: Request) -> None:
    """A cookie is sent by any page; only our own pages may change things with it."""
    if request.method in _SAFE:
        return
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    own = f"{request.url.scheme}://{request.url.netloc}"
    if site not in {None, "same-origin", "none"} or (origin is not None and origin != own):
        raise ForbiddenError("a page of another site may not do this", hint="Use the page on " + own)


def _with_role(role: Role) -> Callable[[Principal], Awaitable[Principal]]:
    async def check(principal: Annotated[Principal, Depends(caller)]) -> Principal:
        principal.need(role)
        return principal

    return check


async def _node(principal: Annotated[Principal, Depends(caller)]) -> Principal:
    principal.need_node()
    return principal


Caller = Annotated[Principal, Depends(caller)]  # anybody with a token, nodes and runs too
Viewer = Annotated[Principal, Depends(_with_role(Role.VIEWER))]
Member = Annotated[Principal, Depends(_with_role(Role.MEMBER))]
Admin = Annotated[Principal, Depends(_with_role(Role.ADMIN))]
NodeAgent = Annotated[Principal, Depends(_node)]
