"""Calls over HTTP: ask for one, then both sides come with a WebSocket each (see `launch/calls.py`)."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Response, WebSocket
from starlette.websockets import WebSocketDisconnect

from nexus.infra.web.auth import Admin, Caller, NodeAgent, Viewer
from nexus.infra.web.bodies import json_answer
from nexus.kernel.errors import UnavailableError
from nexus.launch.calls import Call, CallRequest
from nexus.launch.service.relay import Relay

_REASON_B = 120  # of a goodbye; the protocol's own limit is 123


def router(relay: Relay) -> APIRouter:
    """`/v1/runs/{run}/calls`, `/v1/nodes/{node}/calls`, and the two sides."""
    api = APIRouter(prefix="/v1", tags=["relay"])

    @api.post("/runs/{run}/calls", status_code=201, summary="Reach into a running task", response_model=Call)
    async def to_run(principal: Viewer, run: str, request: CallRequest) -> Response:
        return json_answer(await relay.open(principal, run, request), status=201)

    @api.post("/nodes/{node}/calls", status_code=201, summary="A shell on a node whose owner allows it")
    async def to_node(principal: Admin, node: str, request: CallRequest) -> Call:
        return await relay.open_node(principal, node, request)

    @api.websocket("/calls/{call}")
    async def near(principal: Caller, call: str, socket: WebSocket) -> None:
        await relay.attach(principal, call, _Side(socket))

    @api.websocket("/agent/calls/{call}")
    async def far(principal: NodeAgent, call: str, socket: WebSocket) -> None:
        side = _Side(socket)
        try:
            await relay.answer(principal.subject, call, side)
        finally:
            await side.close()

    return api


@dataclass(eq=False)
class _Side:
    """One side's WebSocket, as `launch.ports.Stream`. It is accepted with the first use: before, errors are HTTP's."""

    socket: WebSocket
    is_open: bool = False
    is_over: bool = False

    async def send(self, message: bytes) -> None:
        await self._open()
        try:
            await self.socket.send_bytes(message)
        except (WebSocketDisconnect, RuntimeError, OSError) as error:
            raise UnavailableError("the other side has hung up") from error

    async def receive(self) -> bytes | None:
        await self._open()
        if self.is_over:
            return None
        said = await self.socket.receive()
        if said["type"] == "websocket.disconnect":
            self.is_over = True
            return None
        return said.get("bytes") or (said.get("text") or "").encode()

    async def close(self, why: str = "") -> None:
        if self.is_over or not self.is_open:
            return
        self.is_over = True
        try:
            await self.socket.close(reason=why.encode()[:_REASON_B].decode("utf-8", "ignore"))
        except (WebSocketDisconnect, RuntimeError, OSError):
            return

    async def _open(self) -> None:
        if not self.is_open:
            await self.socket.accept()
            self.is_open = True
