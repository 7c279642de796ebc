"""Routes that agents call: raw bytes with an offset, so that a piece that comes twice changes nothing.

A piece that does not begin where the stream ends is answered with 409 and `details.expected`, the byte to send from.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from nexus.infra.web.auth import NodeAgent
from nexus.infra.web.bodies import json_answer, read_body, read_json
from nexus.track.faces.bodies import Offset
from nexus.track.model import ArtifactReport
from nexus.track.ports import Leases
from nexus.track.service import Track

ByteOffset = Annotated[int, Query(ge=0)]
PIECE_MAX_B = 16 * 1024 * 1024


def add_ingest_routes(api: APIRouter, track: Track, leases: Leases) -> None:
    """`POST /agent/tasks/{task}/logs|metrics|artifacts`."""

    @api.post("/agent/tasks/{task}/logs", response_model=Offset, tags=["agent"], summary="A piece of a task's log")
    async def logs(principal: NodeAgent, task: str, epoch: int, offset: ByteOffset, request: Request) -> Response:
        owner = await leases.owner(principal.subject, task, epoch)
        data = await read_body(request, PIECE_MAX_B)
        return json_answer(Offset(await track.logs.append(owner, offset, data)))

    @api.post("/agent/tasks/{task}/metrics", response_model=Offset, tags=["agent"], summary="A piece of metrics")
    async def metrics(
        principal: NodeAgent, task: str, epoch: int, stream: str, offset: ByteOffset, request: Request
    ) -> Response:
        """`stream` is the spool file's name. Bytes after the answered offset were no whole frame: send them again."""
        owner = await leases.owner(principal.subject, task, epoch)
        data = await read_body(request, PIECE_MAX_B)
        return json_answer(Offset(await track.metrics.append(owner, stream, offset, data)))

    @api.post("/agent/tasks/{task}/artifacts", tags=["agent"], summary="An output that was uploaded")
    async def artifacts(principal: NodeAgent, task: str, epoch: int, request: Request) -> Response:
        owner = await leases.owner(principal.subject, task, epoch)
        await track.artifacts.report(owner, await read_json(request, ArtifactReport))
        return json_answer({})
