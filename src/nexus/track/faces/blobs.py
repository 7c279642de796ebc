"""Routes for bytes by digest, and how content is handed out: always as a download, never as a page."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from nexus.infra.web.auth import Caller
from nexus.infra.web.bodies import json_answer
from nexus.kernel.errors import UsageError
from nexus.kernel.identity import Principal, PrincipalKind, Role
from nexus.track.faces.bodies import Stored
from nexus.track.ports import Leases
from nexus.track.service import Track

_RANGE = re.compile(r"bytes=(\d{1,18})-")


def add_blob_routes(api: APIRouter, track: Track, leases: Leases) -> None:
    """`HEAD, GET, PUT /blobs/{digest}`. A project sees what somebody of it has uploaded.

    A node that names the lease of a task acts for the project of that task, which may not be its own.
    """

    async def acting(principal: Principal, task: str, epoch: int) -> Principal:
        if not task or principal.kind is not PrincipalKind.NODE:
            return principal
        return replace(principal, project=(await leases.owner(principal.subject, task, epoch)).project)

    @api.head("/blobs/{digest}", tags=["blobs"], summary="Whether the project has these bytes")
    async def head(principal: Caller, digest: str, task: str = "", epoch: int = 0) -> Response:
        size = await track.uploads.size((await acting(principal, task, epoch)).project, digest)
        return Response(headers={"content-length": str(size)}, media_type="application/octet-stream")

    @api.get("/blobs/{digest}", response_class=StreamingResponse, tags=["blobs"], summary="The bytes; Range resumes")
    async def get(principal: Caller, digest: str, request: Request, task: str = "", epoch: int = 0) -> Response:
        start, who = range_start(request), await acting(principal, task, epoch)
        size, chunks = await track.uploads.open(who.project, digest, start)
        return attachment(chunks, size, start, digest)

    @api.put("/blobs/{digest}", response_model=Stored, tags=["blobs"], summary="Upload; the digest is checked")
    async def put(principal: Caller, digest: str, request: Request, task: str = "", epoch: int = 0) -> Response:
        may_upload(principal)
        size = await track.uploads.put(await acting(principal, task, epoch), digest, request.stream())
        return json_answer(Stored(digest=digest, size_b=size))


def may_upload(principal: Principal) -> None:
    """Nodes bring their tasks' outputs; everybody else needs to be a member. Raises ForbiddenError."""
    if principal.kind is not PrincipalKind.NODE:
        principal.need(Role.MEMBER)


def range_start(request: Request) -> int:
    """The first byte that `Range: bytes=N-` asks for; other ranges are answered in full, as HTTP allows."""
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    return int(match[1]) if match else 0


def attachment(chunks: AsyncIterator[bytes], size: int, start: int, name: str) -> Response:
    """A download that no browser runs or shows. Raises UsageError if `start` lies behind the end."""
    if start and start >= size:
        raise UsageError(f"the content ends at byte {size}", hint="Ask again without a range.")
    headers = {
        "content-length": str(size - start),
        "content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        "content-security-policy": "default-src 'none'; sandbox",
        "x-content-type-options": "nosniff",
        "accept-ranges": "bytes",
    }
    if start:
        headers["content-range"] = f"bytes {start}-{size - 1}/{size}"
    return StreamingResponse(chunks, 206 if start else 200, headers, media_type="application/octet-stream")
