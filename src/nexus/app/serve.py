"""Run the server in this process until somebody stops it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import ipaddress
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import structlog
import uvicorn

from nexus.access.model import DEFAULT_PROJECT
from nexus.access.service import Access, People
from nexus.access.service.tokens import SYSTEM
from nexus.app.home import Home, write_login, write_private
from nexus.app.local_agent import join_this_machine, keep_agent
from nexus.app.settings import Settings
from nexus.infra.telemetry import set_up_logging
from nexus.infra.web.door import Door, is_address, is_own_name
from nexus.infra.web.patience import PatientProtocol
from nexus.infra.web.quick import Quick
from nexus.kernel.errors import ConflictError, UnavailableError, UsageError
from nexus.launch.calls import MESSAGE_B

if TYPE_CHECKING:
    from nexus.app.wire import Services

log = structlog.get_logger()
_CHECK_S = 5.0


class _Server(uvicorn.Server):
    """uvicorn's own handlers raise the signal again once it has stopped: agent and loops would never be told."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises ConflictError when a port or the home is taken, UnavailableError without a database, UsageError for an
    address that others can reach without TLS.
    """
    home = Home(settings.home)
    check_exposure(settings)
    home.prepare()
    set_up_logging()
    _open_many_connections()
    home.take()
    listening = listen(settings.host, settings.port)
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(settings, home, listening))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The faster event loop where the platform has it."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def check_exposure(settings: Settings) -> None:
    """Refuse to offer tokens and code, readable on the way, to a network. Raises UsageError."""
    if settings.plain_http or settings.host == "localhost":
        return
    if is_address(settings.host) and ipaddress.ip_address(settings.host).is_loopback:
        return
    raise UsageError(
        f"on {settings.host} others could reach this server without TLS, and read tokens and code on the way",
        hint="Let a proxy with TLS in front (docs/how-to/share-a-server.md); on a network that you trust: --plain-http",
    )


def own_names(settings: Settings) -> list[str]:
    """What this server may be called by those who reach it."""
    machine = socket.gethostname()
    return [settings.host, machine, machine.partition(".")[0], *settings.hosts.split(",")]


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConflictError when the port is taken, UsageError when the host is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, or event loops take the connections for something else and leave Nagle's delay on.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OverflowError as error:
        listening.close()
        raise UsageError(f"{port} is no port", hint="Ports go from 0 to 65535.") from error
    except OSError as error:
        listening.close()
        if isinstance(error, socket.gaierror) or error.errno != errno.EADDRINUSE:
            hint = "Ports below 1024 are root's; the host must be an address of this machine."
            raise UsageError(f"cannot listen on {host}:{port}: {error.strerror}", hint=hint) from error
        hint = f"Stop what listens there, or choose another: nexus up --port {port + 10}"
        raise ConflictError(f"port {port} is taken", hint=hint) from error
    listening.listen(2048)
    return listening


async def _serve(settings: Settings, home: Home, listening: socket.socket) -> None:
    from nexus.app.server import create_app
    from nexus.app.wire import open_services
    from nexus.launch.faces.agent_api import quick_routes

    services = await open_services(settings)
    try:
        await services.start()
        door = Door(create_app(services), is_own_name(own_names(settings)), services.clock.monotonic)
        server = _Server(
            uvicorn.Config(
                Quick(door, services.access.authenticate, quick_routes(services.launch)),
                http=PatientProtocol,
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=3,
                ws_max_size=MESSAGE_B,
                ws_ping_interval=None,  # calls have their own: uvicorn takes a slow reader for a dead one
            )
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, server.handle_exit, number, None)
        await _first_login(settings, home, services.access, services.people)
        write_private(home.server_file, json.dumps({"pid": os.getpid(), "url": settings.url}))
        if settings.agent:
            folder = settings.home / "agent"
            await join_this_machine(folder, settings.url, services.access, services.launch, DEFAULT_PROJECT)
            services.keep(keep_agent(folder, settings.home / "agent.log"), "agent")
        _greet(settings)
        _settle_memory()
        holding = asyncio.create_task(_hold(services, server))
        await server.serve([listening])
        if holding.done():
            holding.result()
        holding.cancel()
    finally:
        await services.close()
        home.server_file.unlink(missing_ok=True)  # last: `nexus down` waits for it


def _open_many_connections() -> None:
    """Each agent holds a connection, and many systems begin with a bound of 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with contextlib.suppress(ValueError, OSError):  # a system that says one thing and allows another
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _settle_memory() -> None:
    """What is here now stays: the collector, which would stop everything to look at it, need not. Cycles are rare."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 50)


async def _hold(services: Services, server: uvicorn.Server) -> None:
    """End the server when its database may be somebody else's. Raises UnavailableError then."""
    while True:
        await asyncio.sleep(_CHECK_S)
        try:
            await services.check()
        except UnavailableError as error:
            log.error("server.database_lost", error=error.message)  # noqa: TRY400  (no bug, so no trace)
            server.should_exit = True
            raise


async def _first_login(settings: Settings, home: Home, access: Access, people: People) -> None:
    """See to it that this machine's own user can talk to this machine's own server."""
    await people.found()
    login = home.login() or {"url": settings.url, "token": ""}
    if login["url"] != settings.url and login["token"]:
        return  # somebody logged in elsewhere on purpose
    if login["token"] and await access.authenticate(login["token"]):
        return
    owner = await people.login_token(await people.an_owner(), DEFAULT_PROJECT, by=SYSTEM)
    write_login(home, settings.url, owner.secret)


def _greet(settings: Settings) -> None:
    sys.stdout.write(f"Nexus is up at {settings.url}  (home: {settings.home})\n")
    sys.stdout.flush()
    log.info("server.up", url=settings.url, pid=os.getpid())
