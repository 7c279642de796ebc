"""Routes of what is kept: secrets, which nobody reads back, and the audit trail."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import APIRouter, Query, Response

from nexus.access.model import Chain, SecretView
from nexus.access.service import Audit, Secrets
from nexus.infra.web.auth import Admin, Member, Viewer
from nexus.infra.web.bodies import json_answer
from nexus.kernel.events import Event

Limit = Annotated[int, Query(ge=1, le=1000)]
Before = Annotated[int | None, Query(ge=1, lt=2**63, description="The smallest number that was seen")]


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRequest:
    """A value to keep."""

    value: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """How many secrets are closed with the new key."""

    count: int


def add_secrets(api: APIRouter, secrets: Secrets) -> None:
    """`/secrets`: names come out, values go in."""

    @api.get("/secrets", summary="The names of the project's secrets")
    async def names(principal: Member) -> list[SecretView]:
        return list(await secrets.names(principal))

    @api.put("/secrets/{name}", summary="Keep a value; nobody reads it back")
    async def put(principal: Member, name: str, body: SecretRequest) -> SecretView:
        return await secrets.set(principal, name, body.value)

    @api.delete("/secrets/{name}", summary="Forget a value")
    async def remove(principal: Member, name: str) -> SecretView:
        return await secrets.remove(principal, name)

    @api.post("/secrets/rotate", summary="Close every secret of the server with a new key")
    async def rotate(principal: Viewer) -> Rotated:
        return Rotated(count=await secrets.rotate(principal))


def add_audit(api: APIRouter, audit: Audit) -> None:
    """`/audit`."""

    @api.get("/audit", response_model=list[Event], summary="What happened, newest first; for admins")
    async def trail(
        principal: Admin,
        subject: str | None = None,
        actor: str | None = None,
        since: float | None = None,
        before: Before = None,
        everywhere: bool = False,
        limit: Limit = 100,
    ) -> Response:
        found = await audit.trail(
            principal,
            subject=subject,
            actor=actor,
            since=since,
            before=before,
            everywhere=everywhere,
            limit=limit,
        )
        return json_answer(found)

    @api.get("/audit/verify", summary="Whether the trail is as it was written; for owners")
    async def verify(principal: Viewer, expected: str = "") -> Chain:
        return await audit.verify(principal, expected)
