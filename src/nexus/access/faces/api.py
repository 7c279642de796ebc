"""Routes of Access: who I am, tokens, join tokens, login codes; `people_api` and `keeping_api` have the rest."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastapi import APIRouter, Request

from nexus.access.faces.keeping_api import add_audit, add_secrets
from nexus.access.faces.people_api import add_projects, add_users
from nexus.access.model import NewToken, TokenView
from nexus.access.service import Access, Audit, People, Secrets
from nexus.infra.web.auth import Caller, Member, Viewer, address_of, limit_logins
from nexus.kernel.identity import Principal, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """What is asked for."""

    name: str
    role: Role = Role.MEMBER
    lifetime_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginRequest:
    """A name and a password."""

    user: str
    password: str = field(repr=False)


def router(access: Access, people: People, secrets: Secrets, audit: Audit) -> APIRouter:
    """`/v1/me`, `/v1/login`, tokens and codes, projects and users, secrets, the audit trail."""
    api = APIRouter(prefix="/v1", tags=["access"])
    _add_tokens(api, access)
    add_projects(api, people)
    add_users(api, people)
    add_secrets(api, secrets)
    add_audit(api, audit)

    @api.post("/login", status_code=201, summary="A token for a password; needs no other")
    async def login(request: Request, body: LoginRequest) -> NewToken:
        limit_logins(request)
        return await people.log_in(body.user, body.password, address=address_of(request))

    return api


def _add_tokens(api: APIRouter, access: Access) -> None:
    @api.get("/me", summary="Whose token this is")
    async def me(principal: Caller) -> Principal:
        return principal

    @api.get("/tokens", summary="The project's tokens; without the role admin, one's own")
    async def tokens(principal: Viewer) -> list[TokenView]:
        return await access.tokens(principal)

    @api.post("/tokens", status_code=201, summary="A new token of one's own; the secret is shown once")
    async def create(principal: Viewer, body: TokenRequest) -> NewToken:
        return await access.create_for(principal, body.name, body.role, body.lifetime_s)

    @api.delete("/tokens/{token_id}", summary="Revoke a token")
    async def revoke(principal: Viewer, token_id: str) -> TokenView:
        return await access.revoke(principal, token_id)

    @api.post("/join-tokens", status_code=201, summary="A token with which one machine may join")
    async def join_token(principal: Member) -> NewToken:
        return await access.join_token(principal)

    @api.post("/login-codes", status_code=201, summary="A code that becomes one browser session")
    async def login_code(principal: Viewer) -> NewToken:
        return await access.login_code(principal)
