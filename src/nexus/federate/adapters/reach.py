"""Ways to the server of a run, tried in order: its own address, then through the control plane, to which both dial out.

TLS goes from end to end either way: the control plane passes on what it cannot read. Whoever answers at an address has
to show that it is the run's server, so an address that means another machine in this network is no way, and no danger.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog

from nexus.federate.adapters.passport import holder
from nexus.federate.core.identity import SERVER
from nexus.infra.http_client import HttpClient
from nexus.kernel.errors import DeniedError, NexusError, UnavailableError, UsageError
from nexus.launch.calls import Call, CallKind, CallRequest
from nexus.launch.faces.calling import attach, carry
from nexus.launch.faces.client import LaunchClient

log = structlog.get_logger()

_CONNECT_S = 3.0  # across the world takes a tenth of it; a firewall that says nothing takes all
_ANSWER_S = 30.0


class Way(Protocol):
    """One way to the server."""

    @property
    def name(self) -> str:
        """What the log calls it."""
        ...

    def connect(self) -> socket.socket:
        """A byte stream to the server. Raises OSError, NexusError."""
        ...


class Direct:
    """The server's own address."""

    def __init__(self, host: str, port: int) -> None:
        self.name = f"{host}:{port}"
        self._address = (host, port)

    def connect(self) -> socket.socket:
        return socket.create_connection(self._address, timeout=_CONNECT_S)


class Relayed:
    """A call through the control plane, whose other end the server's own agent dials."""

    name = "the control plane's relay"

    def __init__(self, url: str, token: str, run: str) -> None:
        self._http = HttpClient(url, token, timeout_s=10.0)
        self._run = run

    def connect(self) -> socket.socket:
        request = CallRequest(kind=CallKind.PORT, role=SERVER, port="federate")
        call = LaunchClient(self._http).call(self._run, request)
        near, far = socket.socketpair()
        threading.Thread(target=self._carry, args=(call, far), daemon=True).start()
        return near

    def _carry(self, call: Call, far: socket.socket) -> None:
        async def carried() -> None:
            far.setblocking(False)
            reader, writer = await asyncio.open_unix_connection(sock=far)
            try:
                line = await attach(self._http, call)
                try:
                    await carry(line, reader, writer)
                finally:
                    await line.close()
            finally:
                writer.close()

        try:
            with contextlib.suppress(OSError):
                asyncio.run(carried())
        except NexusError as error:
            log.debug("federate.relay_ended", reason=error.message)


def ways(address: tuple[str, int], env: Mapping[str, str]) -> list[Way]:
    """How the task with this environment may reach the server."""
    url, token, run = (env.get(f"NEXUS_{name}", "") for name in ("API_URL", "TOKEN", "RUN_ID"))
    direct: list[Way] = [Direct(*address)]
    return [*direct, Relayed(url, token, run)] if url and token and run else direct


class Reach:
    """Connections to the run's server, by the way that worked last, or else the first that does."""

    def __init__(self, ways: Sequence[Way], tls: ssl.SSLContext) -> None:
        self._ways = list(ways)
        self._tls = tls
        self._last: Way | None = None
        self._said: set[str] = set()  # the ways whose failure the log has since the last success

    @property
    def name(self) -> str:
        """The ways, in words."""
        return " and ".join(way.name for way in self._ways)

    def dial(self) -> ssl.SSLSocket:
        """An open connection to the server, proven to be it.

        Raises UnavailableError, and DeniedError when all who answered are something else, or know us not.
        """
        failures: list[Exception] = []
        for way in sorted(self._ways, key=lambda way: way is not self._last):
            try:
                made = self._through(way)
            except (OSError, NexusError) as error:
                self._say(way, str(error))
                failures.append(error)
                continue
            if way is not self._last:
                log.info("federate.reached", way=way.name)
            self._last = way
            self._said.clear()
            return made
        if all(isinstance(error, (ssl.SSLCertVerificationError, DeniedError)) for error in failures):
            raise DeniedError(
                f"who answers at {self.name} is not a task of the run, or does not take us for one",
                hint="NEXUS_TOKEN must be of this run, in every task.",
            ) from failures[0]
        raise UnavailableError("; ".join(str(error) for error in failures)) from failures[0]

    def _say(self, way: Way, why: str) -> None:
        """Once: a server that is not up yet is asked for many times."""
        if way.name not in self._said:
            self._said.add(way.name)
            log.info("federate.no_way", way=way.name, error=why)

    def _through(self, way: Way) -> ssl.SSLSocket:
        """Raises OSError, NexusError."""
        plain = way.connect()
        plain.settimeout(_ANSWER_S)
        try:
            made = self._tls.wrap_socket(plain)
        except BaseException:
            plain.close()
            raise
        try:
            _check(made)
        except BaseException:
            made.close()
            raise
        return made


def _check(connection: ssl.SSLSocket) -> None:
    """Refuse whoever is not the server. Raises DeniedError."""
    try:
        who = holder(connection)
    except UsageError as error:
        raise DeniedError(error.message) from error
    if who.role != SERVER:
        raise DeniedError(f"who answers is {who}, not the server")
