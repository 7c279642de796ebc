"""The server's routes, as an ASGI application over TLS. Every connection shows which task of the run is at its end."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import ssl
from collections.abc import Awaitable, Callable

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from nexus.federate.adapters.chunks import CHUNK_B, read_chunk, unwrapped, wrapped
from nexus.federate.adapters.coordinator import Coordinator
from nexus.federate.adapters.passport import holder
from nexus.federate.core.identity import Holder
from nexus.federate.protocol import Join, Upload
from nexus.infra.web.bodies import json_answer, read_json
from nexus.kernel.errors import DeniedError, LimitError, NexusError, UnavailableError, UsageError

log = structlog.get_logger()

Handler = Callable[[Request, int], Awaitable[Response]]  # for the host that asks
_CHECK = re.compile(r"[0-9a-f]{32}")
_SLACK_B = 64 * 1024
_SUMS = "/v1/rounds/{number:int}/sums/{attempt:int}/{phase:str}/{client:int}"


def application(coordinator: Coordinator, host_of: Callable[[Holder], int]) -> Starlette:
    """The routes of `nexus.federate.protocol`; `host_of` says which host a holder is. Raises DeniedError there."""

    async def join(request: Request, host: int) -> Response:
        return json_answer(coordinator.join(host, await read_json(request, Join)))

    async def alive(_: Request, host: int) -> Response:
        coordinator.alive(host)
        return Response(status_code=204)

    async def work(_: Request, host: int) -> Response:
        return json_answer(await coordinator.work(host))

    async def plan(request: Request, host: int) -> Response:
        coordinator.alive(host)
        path, offset = coordinator.plan_path(request.path_params["number"]), _number(request, "offset")
        data, encoding = await asyncio.to_thread(lambda: wrapped(read_chunk(path, offset)))
        return Response(data, headers={"content-encoding": encoding} if encoding else None)

    async def update(request: Request, host: int) -> Response:
        upload, offset = _upload(request), _number(request, "offset")
        data = unwrapped(await _body(request), request.headers.get("content-encoding", ""))
        return json_answer(await coordinator.receive(host, upload, offset, data))

    async def question(request: Request, host: int) -> Response:
        return Response(await coordinator.question(host, *_step(request)))

    async def answer(request: Request, host: int) -> Response:
        body = await _body(request, coordinator.answer_max_b)
        return json_answer(await coordinator.answer(host, *_step(request), body))

    def route(path: str, handler: Handler, method: str) -> Route:
        return Route(path, _checked(handler, host_of), methods=[method])

    routes = [
        route("/v1/join", join, "POST"),
        route("/v1/alive", alive, "POST"),
        route("/v1/work", work, "GET"),
        route("/v1/rounds/{number:int}/plan", plan, "GET"),
        route("/v1/rounds/{number:int}/updates/{client:int}", update, "PUT"),
        route(_SUMS, question, "GET"),
        route(_SUMS, answer, "PUT"),
    ]
    return Starlette(routes=routes)


def web_server(app: Starlette, tls: ssl.SSLContext) -> uvicorn.Server:
    """A server of `app` that takes no connection without a certificate of the run's authority."""
    config = uvicorn.Config(app, log_level="critical", lifespan="off", http=_WithPeer, ws="none")
    config.load()
    config.ssl = tls
    return uvicorn.Server(config)


class _WithPeer(HttpToolsProtocol):
    """Tells every request of a connection who is at its end: `request.state.peer`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        try:
            self.app_state = {**self.app_state, "peer": holder(tls)}
        except UsageError as error:
            log.warning("federate.stranger", reason=error.message)
            transport.abort()


def listen(address: str, port: int) -> socket.socket:
    """A socket on this task's address; on all of the machine's where that one is not its own (NAT, containers).

    Raises UnavailableError if the port is taken.
    """
    for host in (address, "0.0.0.0"):  # noqa: S104 (only where its own address is not bindable; TLS asks who comes)
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((host, port))
        except OSError as error:
            made.close()
            if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
                continue
            raise UnavailableError(
                f"port {port} of {host} cannot be listened on: {error.strerror}", hint="Another program may hold it."
            ) from error
        return made
    raise UnavailableError(f"cannot listen on port {port}", hint="Look at the machine's addresses.")


def _checked(handler: Handler, host_of: Callable[[Holder], int]) -> Callable[[Request], Awaitable[Response]]:
    async def checked(request: Request) -> Response:
        try:
            peer: Holder | None = getattr(request.state, "peer", None)
            if peer is None:
                raise DeniedError("nobody is known at the end of this connection", hint="Speak TLS, as nexus does.")
            return await handler(request, host_of(peer))
        except NexusError as error:
            return json_answer(error.as_dict(), error.status)

    return checked


def _upload(request: Request) -> Upload:
    """Raises UsageError."""
    check = request.query_params.get("check", "")
    if not _CHECK.fullmatch(check):
        raise UsageError("check must be an XXH3 checksum of 128 bits", hint="32 digits from 0 to f.")
    return Upload(
        number=request.path_params["number"],
        client=request.path_params["client"],
        check=check,
        size=_number(request, "size"),
    )


def _step(request: Request) -> tuple[int, int, str, int]:
    path = request.path_params
    return path["number"], path["attempt"], path["phase"], path["client"]


async def _body(request: Request, most_b: int = CHUNK_B + _SLACK_B) -> bytes:
    """A chunk, or a whole message. Raises LimitError, UsageError if it broke off."""
    body, said = bytearray(), request.headers.get("content-length", "")
    async for part in request.stream():
        body += part
        if len(body) > most_b:
            raise LimitError(f"what comes is larger than {most_b} bytes", hint="Send less at a time.")
    if said and len(body) != int(said):
        raise UsageError(f"the chunk broke off after {len(body)} of {said} bytes", hint="Send it again.")
    return bytes(body)


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "0")
    if not text.isdecimal() or len(text) > 15:
        raise UsageError(f"{name} must be a number", hint=f"?{name}=0")
    return int(text)
