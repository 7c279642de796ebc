"""One place where errors become answers."""

from __future__ import annotations

from typing import Any

import structlog
from fastapi import FastAPI, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.requests import HTTPConnection
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.websockets import WebSocketState

from nexus.kernel.errors import NexusError, UsageError

log = structlog.get_logger()


def answer_errors(app: FastAPI) -> None:
    """Make every error of `app` answer with the tree's status and body."""

    @app.exception_handler(NexusError)
    async def ours(asked: HTTPConnection, error: NexusError) -> JSONResponse:
        later = error.details.get("retry_after_s")
        headers = {"retry-after": str(later)} if later else None
        answer = JSONResponse(error.as_dict(), status_code=error.status, headers=headers)
        if isinstance(asked, WebSocket) and asked.application_state is WebSocketState.CONNECTING:
            await asked.send_denial_response(answer)  # of a socket's error, nothing else is done with what we return
        return answer

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        problems = [f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors()]
        ours = UsageError("; ".join(problems), hint="GET /openapi.json says what this route takes.")
        return JSONResponse(ours.as_dict(), status_code=ours.status)

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "usage"}.get(error.status_code, "nexus.error")
        body: dict[str, Any] = {
            "code": code,
            "message": f"{request.url.path}: {error.detail}",
            "hint": "",
            "details": {},
        }
        return JSONResponse({"error": body}, status_code=error.status_code, headers=error.headers)

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> JSONResponse:
        log.error("server.bug", path=request.url.path, exc_info=error)
        ours = NexusError("the server failed", hint="This is a bug in Nexus; the server's log has the trace.")
        return JSONResponse(ours.as_dict(), status_code=500)
