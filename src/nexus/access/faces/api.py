"""Routes of Access: tokens, join tokens, login codes, and who I am."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter

from nexus.access.model import NewToken, TokenView
from nexus.access.service import Access
from nexus.infra.web.auth import Admin, Caller, Member, Viewer
from nexus.kernel.identity import Principal, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """What is asked for."""

    name: str
    role: Role = Role.MEMBER
    lifetime_s: float | None = None


def router(access: Access) -> APIRouter:
    """`/v1/me`, `/v1/tokens`, `/v1/join-tokens`, `/v1/login-codes`."""
    api = APIRouter(prefix="/v1", tags=["access"])

    @api.get("/me", summary="Whose token this is")
    async def me(principal: Caller) -> Principal:
        return principal

    @api.get("/tokens", summary="The project's tokens")
    async def tokens(principal: Admin) -> list[TokenView]:
        return await access.tokens(principal)

    @api.post("/tokens", status_code=201, summary="A new token; the secret is shown once")
    async def create(principal: Admin, body: TokenRequest) -> NewToken:
        return await access.create_for(principal, body.name, body.role, body.lifetime_s)

    @api.delete("/tokens/{token_id}", summary="Revoke a token")
    async def revoke(principal: Admin, token_id: str) -> TokenView:
        return await access.revoke(principal, token_id)

    @api.post("/join-tokens", status_code=201, summary="A token with which one machine may join")
    async def join_token(principal: Member) -> NewToken:
        return await access.join_token(principal)

    @api.post("/login-codes", status_code=201, summary="A code that becomes one browser session")
    async def login_code(principal: Viewer) -> NewToken:
        return await access.login_code(principal)

    return api
