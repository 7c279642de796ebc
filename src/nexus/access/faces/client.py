"""Access over HTTP, typed."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from nexus.access.model import (
    Chain,
    Member,
    NewToken,
    NewUser,
    ProjectView,
    SecretView,
    TokenView,
    UserView,
)
from nexus.infra.http_client import HttpClient
from nexus.kernel.events import Event
from nexus.kernel.identity import Principal, Role


@dataclass(frozen=True)
class AccessClient:
    """The routes of `faces/api.py`."""

    http: HttpClient

    def me(self) -> Principal:
        return self.http.get("/v1/me", Principal)

    # ------------------------------------------------------------------ tokens

    def tokens(self) -> list[TokenView]:
        return self.http.get("/v1/tokens", list[TokenView])

    def create(self, name: str, role: Role = Role.MEMBER, lifetime_s: float | None = None) -> NewToken:
        return self.http.post("/v1/tokens", NewToken, {"name": name, "role": role, "lifetime_s": lifetime_s})

    def revoke(self, token_id: str) -> TokenView:
        return self.http.call("DELETE", f"/v1/tokens/{_part(token_id)}", TokenView)

    def join_token(self) -> NewToken:
        return self.http.post("/v1/join-tokens", NewToken)

    def login_code(self) -> NewToken:
        return self.http.post("/v1/login-codes", NewToken)

    def log_in(self, user: str, password: str) -> NewToken:
        """A token for a password; the client needs none of its own."""
        return self.http.post("/v1/login", NewToken, {"user": user, "password": password})

    # ------------------------------------------------------------------ projects and users

    def projects(self) -> list[ProjectView]:
        return self.http.get("/v1/projects", list[ProjectView])

    def create_project(self, name: str) -> ProjectView:
        return self.http.post("/v1/projects", ProjectView, {"name": name})

    def remove_project(self, name: str) -> ProjectView:
        return self.http.call("DELETE", f"/v1/projects/{_part(name)}", ProjectView)

    def members(self) -> list[Member]:
        return self.http.get("/v1/members", list[Member])

    def set_role(self, user: str, role: Role | None) -> Member | None:
        """None takes the user out of the project."""
        if role is None:
            self.http.request("DELETE", f"/v1/members/{_part(user)}")
            return None
        return self.http.call("PUT", f"/v1/members/{_part(user)}", Member, body={"role": role})

    def users(self) -> list[UserView]:
        return self.http.get("/v1/users", list[UserView])

    def add_user(self, name: str, role: Role | None = Role.MEMBER, *, owner: bool = False) -> NewUser:
        return self.http.post("/v1/users", NewUser, {"name": name, "role": role, "owner": owner})

    def remove_user(self, name: str) -> UserView:
        return self.http.call("DELETE", f"/v1/users/{_part(name)}", UserView)

    def set_password(self, name: str, password: str) -> UserView:
        return self.http.call("PUT", f"/v1/users/{_part(name)}/password", UserView, body={"password": password})

    # ------------------------------------------------------------------ secrets and the trail

    def secrets(self) -> list[SecretView]:
        return self.http.get("/v1/secrets", list[SecretView])

    def set_secret(self, name: str, value: str) -> SecretView:
        return self.http.call("PUT", f"/v1/secrets/{_part(name)}", SecretView, body={"value": value})

    def remove_secret(self, name: str) -> SecretView:
        return self.http.call("DELETE", f"/v1/secrets/{_part(name)}", SecretView)

    def rotate_secrets(self) -> int:
        return self.http.post("/v1/secrets/rotate", dict[str, int])["count"]

    def audit(
        self,
        *,
        subject: str | None = None,
        actor: str | None = None,
        since: float | None = None,
        before: int | None = None,
        everywhere: bool = False,
        limit: int = 100,
    ) -> list[Event]:
        """What happened, newest first."""
        return self.http.get(
            "/v1/audit",
            list[Event],
            subject=subject,
            actor=actor,
            since=since,
            before=before,
            everywhere=everywhere,
            limit=limit,
        )

    def verify(self, expected: str = "") -> Chain:
        return self.http.get("/v1/audit/verify", Chain, expected=expected)


def _part(name: str) -> str:
    """A name as one part of a path, whatever somebody has typed."""
    return quote(name, safe="") or "-"
