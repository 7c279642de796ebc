"""Who calls a route. Every route takes one of the dependencies below; a test walks the app and proves it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Annotated

from fastapi import Depends, Request
from fastapi.requests import HTTPConnection

from nexus.infra.web.limits import Limits
from nexus.kernel.errors import DeniedError, ForbiddenError, NotFoundError
from nexus.kernel.identity import Principal, Role

Authenticate = Callable[..., Awaitable[Principal | None]]  # a token or session [, a project to act in] -> whose it is

SESSION_COOKIE = "nexus_session"
PROJECT_HEADER, PROJECT_COOKIE = "nexus-project", "nexus_project"  # the project to act in, if not the token's own
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


async def caller(request: HTTPConnection) -> Principal:
    """The identity behind the request's bearer token or session cookie.

    Raises DeniedError, NotFoundError for a project that the caller is not in, ThrottledError for who tries too often.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        token = request.cookies.get(SESSION_COOKIE, "")
        if token:
            refuse_cross_site(request)
    principal = await _prove(request, token.strip()) if token else None
    if principal is None:
        await _count_denial(request, token)
        what = "this token is not known, or was revoked" if token else "no token was sent"
        raise DeniedError(what, hint="Log in: nexus login URL TOKEN, or set NEXUS_TOKEN.")
    principal = replace(principal, address=address_of(request))
    request.state.principal = principal
    return principal


async def _prove(request: HTTPConnection, token: str) -> Principal | None:
    authenticate: Authenticate = request.app.state.authenticate
    if project := request.headers.get(PROJECT_HEADER):
        return await authenticate(token, project)
    if (project := request.cookies.get(PROJECT_COOKIE)) and token == request.cookies.get(SESSION_COOKIE):
        try:
            return await authenticate(token, project)
        except (NotFoundError, ForbiddenError):
            return await authenticate(token)  # it is gone, and the browser must get out of it
    return await authenticate(token)


async def _count_denial(request: HTTPConnection, token: str) -> None:
    """Every stranger is slowed down; of those with a token that is not known, some are written down."""
    limits: Limits | None = getattr(request.app.state, "limits", None)
    if limits is None:
        return
    address = address_of(request)
    limits.need(limits.denials, address, "tries without a good token")
    if token and not limits.notes.take(address, limits.monotonic()):
        await request.app.state.denied(address, request.url.path)


def address_of(request: HTTPConnection) -> str:
    """Where a request came from; behind a proxy on this machine, what that says."""
    return request.client.host if request.client else ""


def refuse_cross_site(request: HTTPConnection) -> None:
    """A cookie is sent by any page; only our own pages may change things with it, or open a WebSocket."""
    if request.scope.get("method") in _SAFE:
        return
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    own = f"{request.url.scheme.replace('ws', 'http', 1)}://{request.url.netloc}"
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


def limit_logins(request: HTTPConnection) -> None:
    """Guessing passwords and codes takes long. Raises ThrottledError."""
    limits: Limits | None = getattr(request.app.state, "limits", None)
    if limits is not None:
        limits.need(limits.logins, address_of(request), "tries to log in")


async def _submitter(request: Request, principal: Member) -> Principal:
    limits: Limits | None = getattr(request.app.state, "limits", None)
    if limits is not None:
        limits.need(limits.submits, f"{principal.token or principal.subject} {principal.address}", "runs at once")
    return principal


Submitter = Annotated[Principal, Depends(_submitter)]  # a member who hands in work, so often a second at most
