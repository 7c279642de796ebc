"""Access over HTTP, typed."""

from __future__ import annotations

from dataclasses import dataclass

from nexus.access.model import NewToken, TokenView
from nexus.infra.http_client import HttpClient
from nexus.kernel.identity import Principal, Role


@dataclass(frozen=True)
class AccessClient:
    """The routes of `faces/api.py`."""

    http: HttpClient

    def me(self) -> Principal:
        return self.http.get("/v1/me", Principal)

    def tokens(self) -> list[TokenView]:
        return self.http.get("/v1/tokens", list[TokenView])

    def create(self, name: str, role: Role = Role.MEMBER, lifetime_s: float | None = None) -> NewToken:
        return self.http.post("/v1/tokens", NewToken, {"name": name, "role": role, "lifetime_s": lifetime_s})

    def revoke(self, token_id: str) -> TokenView:
        return self.http.call("DELETE", f"/v1/tokens/{token_id}", TokenView)

    def join_token(self) -> NewToken:
        return self.http.post("/v1/join-tokens", NewToken)

    def login_code(self) -> NewToken:
        return self.http.post("/v1/login-codes", NewToken)
