"""A host's line to the server: one connection, tried again until the server answers or patience ends."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from nexus.federate.protocol import Join, Receipt, Welcome, Work
from nexus.kernel.clock import Clock
from nexus.kernel.errors import NexusError, UnavailableError, from_dict

T = TypeVar("T")
_CHUNK_B = 1 << 20


class Line:
    """Messages to one server. Not for several threads: each makes its own."""

    def __init__(self, host: str, port: int, key: str, *, patience_s: float, clock: Clock) -> None:
        self._address = (host, port)
        self._headers = {"authorization": f"Bearer {key}"}
        self._patience_s = patience_s
        self._clock = clock
        self._connection: http.client.HTTPConnection | None = None

    def join(self, join: Join) -> Welcome:
        """Raises NexusError."""
        return self._call("POST", "/v1/join", Welcome, body=msgspec.json.encode(join))

    def alive(self, host: int) -> None:
        """Raises NexusError."""
        self._patiently("POST", f"/v1/alive?host={host}")

    def work(self, host: int) -> Work:
        """Raises ConflictError when the server does not know this host (any more), NexusError."""
        return self._call("GET", f"/v1/work?host={host}", Work)

    def fetch_plan(self, number: int, path: Path) -> None:
        """Save the round's plan at `path`. Raises ConflictError when the round is not open, NexusError."""
        self._patiently("GET", f"/v1/rounds/{number}/plan", save=path)

    def send_update(self, number: int, client: int, path: Path) -> Receipt:
        """Send the frame at `path` until the server has said what becomes of it. Raises NexusError."""
        return self._call("PUT", f"/v1/rounds/{number}/updates/{client}", Receipt, upload=path)

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _call(self, method: str, path: str, kind: type[T], **content: Any) -> T:
        data = self._patiently(method, path, **content)
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.DecodeError as error:
            raise NexusError(f"the server's answer is not a {kind.__name__}: {error}") from error

    def _patiently(self, method: str, path: str, **content: Any) -> bytes:
        """Ask until there is an answer; a server may start late, or again. Raises NexusError."""
        began, pause = self._clock.monotonic(), 0.05
        while True:
            try:
                return self._once(method, path, **content)
            except (OSError, http.client.HTTPException, UnavailableError) as error:
                self.close()
                if self._clock.monotonic() - began > self._patience_s:
                    host, port = self._address
                    raise UnavailableError(
                        f"no answer from the federated server at {host}:{port} for {self._patience_s:.0f} s: {error}",
                        hint="Look at the log of the run's server task.",
                    ) from error
            time.sleep(pause)
            pause = min(pause * 2, 2.0)

    def _once(
        self, method: str, path: str, *, body: bytes = b"", upload: Path | None = None, save: Path | None = None
    ) -> bytes:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(*self._address, timeout=30)
        headers = self._headers | {"content-length": str(upload.stat().st_size if upload else len(body))}
        self._connection.request(method, path, _chunks(upload) if upload else body, headers)
        answer = self._connection.getresponse()
        if answer.status >= 400:
            raise _error(answer.read(), answer.status)
        if save is None:
            return answer.read()
        with save.open("wb") as file:
            while chunk := answer.read(_CHUNK_B):
                file.write(chunk)
        if save.stat().st_size != int(answer.headers.get("content-length", "-1")):
            raise http.client.IncompleteRead(b"")
        return b""


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_B):
            yield chunk


def _error(body: bytes, status: int) -> NexusError:
    try:
        said = msgspec.json.decode(body)
    except msgspec.DecodeError:
        said = {}
    return from_dict(said if isinstance(said, dict) else {}, status)
