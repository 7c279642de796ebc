"""The agents' side of Launch: join once, then sync (see `launch/protocol.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec
from fastapi import APIRouter, Header, Query, Request, Response

from nexus.access.model import Purpose
from nexus.access.service import Access
from nexus.infra.web.auth import NodeAgent
from nexus.infra.web.bodies import json_answer, read_body, read_json
from nexus.infra.web.quick import QuickRoute
from nexus.kernel.errors import DeniedError, UsageError
from nexus.kernel.identity import Principal
from nexus.launch.protocol import Desired, Join, Joined, Report
from nexus.launch.service import Launch, check_protocol

REPORT_B = 4_000_000


def router(launch: Launch, access: Access) -> APIRouter:
    """`/v1/agent/join` and `/v1/agent/sync`. Bodies are the protocol's own JSON, decoded once by msgspec."""
    api = APIRouter(prefix="/v1/agent", tags=["agent"])

    @api.post("/join", status_code=201, summary="A machine joins, with a join token", response_model=Joined)
    async def join(request: Request, authorization: Annotated[str, Header()] = "") -> Response:
        body = await read_json(request, Join)  # first: a join token is used up by the first try that can be read
        check_protocol(body.protocol)
        token = await access.redeem(_bearer(authorization), Purpose.JOIN)
        node = await launch.join(body.info, token.project)
        return json_answer(Joined(node=node.id, token=await access.node_token(node.id, node.project)), status=201)

    answer = quick_routes(launch)["/v1/agent/sync"].answer

    @api.post("/sync", summary="Say what is, hear what should be", response_model=Desired)
    async def sync(
        request: Request, principal: NodeAgent, since: int = 0, wait: Annotated[float, Query(ge=0, le=60)] = 0
    ) -> Response:
        body = await read_body(request, REPORT_B)
        return Response(await answer(principal, SyncQuery(since, wait), body), media_type="application/json")

    return api


@dataclass(frozen=True, slots=True)
class SyncQuery:
    """`since`: the version that was heard last; `wait`: how long the answer may take when there is nothing newer."""

    since: int = 0
    wait: Annotated[float, msgspec.Meta(ge=0, le=60)] = 0.0


def quick_routes(launch: Launch) -> dict[str, QuickRoute]:
    """What ten thousand agents ask all day, for `infra.web.quick`."""
    reports, encoder = msgspec.json.Decoder(Report), msgspec.json.Encoder()

    async def sync(principal: Principal, query: SyncQuery, body: bytes) -> bytes:
        try:
            report = reports.decode(body)
        except msgspec.DecodeError as error:
            raise UsageError(f"the body is not a valid Report: {error}") from error
        return encoder.encode(await launch.sync(principal.subject, report, query.since, query.wait))

    return {"/v1/agent/sync": QuickRoute(SyncQuery, sync)}


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise DeniedError("no join token was sent", hint="Make one on the server's side: nexus token join")
    return token.strip()
