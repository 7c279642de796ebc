"""The server over HTTP: `ports.Channel` in the words of `launch.protocol`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeVar
from urllib.parse import urlencode

import msgspec

from nexus.agent.adapters.http_wire import Answer, Body, HttpWire
from nexus.agent.model import LOG
from nexus.infra.websocket import WebSocket
from nexus.kernel.errors import DeniedError, NexusError, UnavailableError, from_dict
from nexus.launch.calls import MESSAGE_B
from nexus.launch.ports import Stream
from nexus.launch.protocol import ArtifactReport, Desired, Join, Joined, Offset, Report

T = TypeVar("T")

_JSON = "application/json"
_SLACK_S = 20.0  # what a server may take for an answer, beyond the wait that it was asked for


class HttpChannel:
    """Implements `ports.Channel`."""

    def __init__(self, wire: HttpWire) -> None:
        self._wire = wire

    def close(self) -> None:
        self._wire.close()

    async def join(self, join: Join) -> Joined:
        """Bring this machine in, with the join token that the wire carries. Raises DeniedError, UnavailableError."""
        return await self._call("POST", "/v1/agent/join", msgspec.json.encode(join), Joined, kind=_JSON)

    async def sync(self, report: Report, *, since: int, wait_s: float) -> Desired:
        path = "/v1/agent/sync?" + urlencode({"since": since, "wait": f"{wait_s:g}"})
        body = msgspec.json.encode(report)
        return await self._call("POST", path, body, Desired, kind=_JSON, timeout_s=wait_s + _SLACK_S)

    async def ship(self, task: str, epoch: int, stream: str, offset: int, data: bytes) -> int:
        query: dict[str, str | int] = {"epoch": epoch, "offset": offset}
        what = "logs"
        if stream != LOG:
            what, query = "metrics", query | {"stream": stream}
        answer = await self._call("POST", f"/v1/agent/tasks/{task}/{what}?{urlencode(query)}", data, Offset)
        return answer.offset

    async def artifact(self, task: str, epoch: int, report: ArtifactReport) -> None:
        path = f"/v1/agent/tasks/{task}/artifacts?epoch={epoch}"
        await self._call("POST", path, msgspec.json.encode(report), msgspec.Raw, kind=_JSON)

    async def has_blob(self, task: str, epoch: int, digest: str) -> bool:
        async with self._wire.request("HEAD", _blob(task, epoch, digest)) as answer:
            await answer.read()
            if answer.status == 404:
                return False
            if answer.status >= 400:
                raise _error(answer.status, b"")
            return True

    async def put_blob(self, task: str, epoch: int, digest: str, size_b: int, chunks: AsyncIterator[bytes]) -> None:
        await self._call("PUT", _blob(task, epoch, digest), (size_b, chunks), msgspec.Raw, timeout_s=120.0)

    async def get_blob(self, task: str, epoch: int, digest: str) -> AsyncIterator[bytes]:
        async with self._wire.request("GET", _blob(task, epoch, digest), timeout_s=60.0) as answer:
            if answer.status != 200:
                raise _error(answer.status, await answer.read())
            async for chunk in answer.chunks():
                yield chunk

    async def dial(self, call_id: str) -> Stream:
        """The server's end of a call. Raises NotFoundError if nobody waits there any more, UnavailableError."""
        return CallStream(await self._wire.upgrade(f"/v1/agent/calls/{call_id}", message_b=MESSAGE_B))

    async def _call(
        self,
        method: str,
        path: str,
        body: Body,
        result: type[T],
        *,
        kind: str = "application/octet-stream",
        timeout_s: float = 30.0,
    ) -> T:
        async with self._wire.request(method, path, body, kind=kind, timeout_s=timeout_s) as answer:
            return _decode(answer, await answer.read(), result)


class CallStream:
    """A WebSocket as `launch.ports.Stream`."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def send(self, message: bytes) -> None:
        await self._socket.send(message)

    async def receive(self) -> bytes | None:
        return await self._socket.receive()

    async def close(self, why: str = "") -> None:
        await self._socket.close()


def _blob(task: str, epoch: int, digest: str) -> str:
    return f"/v1/blobs/{digest}?" + urlencode({"task": task, "epoch": epoch})


def _decode(answer: Answer, content: bytes, result: type[T]) -> T:
    if answer.status >= 300:
        raise _error(answer.status, content)
    try:
        return msgspec.json.decode(content or b"null", type=result)
    except msgspec.DecodeError as error:
        raise UnavailableError(
            f"the server's answer is not understood: {error}",
            hint="Do the agent and the server have the same version of nexus?",
        ) from error


def _error(status: int, content: bytes) -> NexusError:
    try:
        body = msgspec.json.decode(content, type=dict) if content else {}
    except msgspec.DecodeError:
        body = {}
    error = from_dict(body, status)
    if isinstance(error, DeniedError):
        return DeniedError(
            f"the server refuses this node's token: {error.message}",
            hint="Was the node removed? Join it again: nexus agent join URL TOKEN",
        )
    if status in {408, 425, 429} or (status >= 500 and status != 501):
        return UnavailableError(error.message, hint=error.hint, **error.details)
    return error
