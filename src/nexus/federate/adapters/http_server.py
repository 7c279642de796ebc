"""The server's routes, as an ASGI application. Every request must know the run's shared key."""

from __future__ import annotations

import errno
import hmac
import socket
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from nexus.federate.adapters.coordinator import Coordinator
from nexus.federate.protocol import Join
from nexus.infra.web.bodies import json_answer, read_json
from nexus.kernel.errors import DeniedError, LimitError, NexusError, UnavailableError, UsageError

Handler = Callable[[Request], Awaitable[Response]]


def shared_key(token: str) -> str:
    """The key that a run's tasks show each other. The run's own token never travels between them."""
    return hmac.new(token.encode(), b"nexus.federate", sha256).hexdigest()


def application(coordinator: Coordinator, key: str) -> Starlette:
    """The routes of `nexus.federate.protocol`."""

    async def join(request: Request) -> Response:
        return json_answer(coordinator.join(await read_json(request, Join)))

    async def alive(request: Request) -> Response:
        coordinator.alive(_number(request.query_params.get("host")))
        return Response(status_code=204)

    async def work(request: Request) -> Response:
        return json_answer(await coordinator.work(_number(request.query_params.get("host"))))

    async def plan(request: Request) -> Response:
        return FileResponse(coordinator.plan_path(request.path_params["number"]))

    async def update(request: Request) -> Response:
        try:
            path = coordinator.upload_path()
        except OSError as error:
            raise _full(error) from error
        try:
            await _save(request, path, coordinator.update_max_b)
            receipt = await coordinator.receive(request.path_params["number"], request.path_params["client"], path)
        finally:
            path.unlink(missing_ok=True)
        return json_answer(receipt)

    routes = [
        Route("/v1/join", _checked(join, key), methods=["POST"]),
        Route("/v1/alive", _checked(alive, key), methods=["POST"]),
        Route("/v1/work", _checked(work, key), methods=["GET"]),
        Route("/v1/rounds/{number:int}/plan", _checked(plan, key), methods=["GET"]),
        Route("/v1/rounds/{number:int}/updates/{client:int}", _checked(update, key), methods=["PUT"]),
    ]
    return Starlette(routes=routes)


def listen(address: str, port: int) -> socket.socket:
    """A socket on this task's address; on all of the machine's where that one is not its own (NAT, containers).

    Raises UnavailableError if the port is taken.
    """
    for host in (address, "0.0.0.0"):  # noqa: S104 (only where its own address is not bindable; every route has a key)
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


def _checked(handler: Handler, key: str) -> Handler:
    async def checked(request: Request) -> Response:
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        try:
            if scheme.lower() != "bearer" or not hmac.compare_digest(shown.encode(), key.encode()):
                raise DeniedError("this is not a task of the run", hint="NEXUS_TOKEN must be the same in every task.")
            return await handler(request)
        except NexusError as error:
            return json_answer(error.as_dict(), error.status)

    return checked


async def _save(request: Request, path: Path, limit_b: int) -> None:
    """The body to a file, in chunks. Raises LimitError, UnavailableError, UsageError if it broke off."""
    size, said = 0, request.headers.get("content-length", "")
    try:
        with path.open("wb") as file:  # what is left in its buffer may fail at its end
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit_b:
                    raise LimitError(f"the update is larger than {limit_b} bytes", hint="Is it the same model?")
                file.write(chunk)
    except OSError as error:
        raise _full(error) from error
    if said and size != int(said):
        raise UsageError(f"the update broke off after {size} of {said} bytes", hint="Send it again.")


def _full(error: OSError) -> UnavailableError:
    """What a host is told so that it tries again."""
    return UnavailableError(
        f"the server cannot keep the update: {error.strerror}", hint="Free space on the server's disk."
    )


def _number(text: str | None) -> int:
    try:
        return int(text or "")
    except ValueError:
        raise UsageError("host must be a number", hint="?host=0") from None
