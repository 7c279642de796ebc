"""A host's line to the server: one connection, tried again until the server answers or patience ends."""

from __future__ import annotations

import http.client
import ssl
import time
from pathlib import Path
from typing import TypeVar

import msgspec

from nexus.federate.adapters.chunks import checksum, read_chunk, unwrapped, wrapped
from nexus.federate.adapters.reach import Reach
from nexus.federate.protocol import Join, Receipt, ReceiptState, Welcome, Work
from nexus.kernel.clock import Clock
from nexus.kernel.errors import DeniedError, NexusError, UnavailableError, from_dict

T = TypeVar("T")
_TRIES = 5  # of a file that comes damaged


class Line:
    """Messages to one server. Not for several threads: each makes its own."""

    def __init__(self, reach: Reach, *, patience_s: float, clock: Clock) -> None:
        self._reach = reach
        self._patience_s = patience_s
        self._clock = clock
        self._connection: http.client.HTTPConnection | None = None

    def join(self, join: Join) -> Welcome:
        """Raises NexusError."""
        return self._call("POST", "/v1/join", Welcome, msgspec.json.encode(join))

    def alive(self) -> None:
        """Raises NexusError."""
        self._patiently("POST", "/v1/alive")

    def work(self) -> Work:
        """Raises ConflictError when the server does not know this host (any more), NexusError."""
        return self._call("GET", "/v1/work", Work)

    def fetch_plan(self, work: Work, path: Path) -> None:
        """Save the round's plan at `path`. Raises ConflictError when the round is not open, NexusError."""
        for _ in range(_TRIES):
            with path.open("wb") as file:
                while file.tell() < work.size_b:
                    data = self._patiently("GET", f"/v1/rounds/{work.number}/plan?offset={file.tell()}")
                    if not data:
                        break  # it was another plan when this began
                    file.write(data)
            if checksum(path) == work.check:
                return
        raise UnavailableError("the plan comes damaged, again and again", hint="Look at the disks of both sides.")

    def send_update(self, number: int, client: int, path: Path) -> Receipt:
        """Send the frame at `path` until the server has said what becomes of it. Raises NexusError."""
        size, check = path.stat().st_size, checksum(path)
        where = f"/v1/rounds/{number}/updates/{client}?check={check}&size={size}"
        offset = lost = 0
        while lost < _TRIES:
            data, encoding = wrapped(read_chunk(path, offset))
            receipt = self._call("PUT", f"{where}&offset={offset}", Receipt, data, encoding)
            if receipt.state is not ReceiptState.PARTIAL:
                return receipt
            lost += receipt.held == 0  # a new server may know nothing of it; twice the disk is to blame
            offset = receipt.held  # which after a cut need not be where this chunk ends
        raise UnavailableError("the update arrives damaged, again and again", hint="Look at the disks of both sides.")

    def question(self, number: int, attempt: int, phase: str, client: int) -> bytes:
        """What a phase of a secure sum asks. Raises ConflictError when it is over, NexusError."""
        return self._patiently("GET", f"/v1/rounds/{number}/sums/{attempt}/{phase}/{client}")

    def answer(self, number: int, attempt: int, phase: str, client: int, message: bytes) -> Receipt:
        """Answer it. Raises NexusError."""
        return self._call("PUT", f"/v1/rounds/{number}/sums/{attempt}/{phase}/{client}", Receipt, message)

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _call(self, method: str, path: str, kind: type[T], body: bytes = b"", encoding: str = "") -> T:
        data = self._patiently(method, path, body, encoding)
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.DecodeError as error:
            raise NexusError(f"the server's answer is not a {kind.__name__}: {error}") from error

    def _patiently(self, method: str, path: str, body: bytes = b"", encoding: str = "") -> bytes:
        """Ask until there is an answer; a server may start late, or again. Raises NexusError."""
        began, pause = self._clock.monotonic(), 0.05
        while True:
            try:
                return self._once(method, path, body, encoding)
            except (OSError, http.client.HTTPException, UnavailableError) as error:
                self.close()
                if _is_refusal(error):
                    raise DeniedError(
                        "the federated server does not take this for a task of the run",
                        hint="NEXUS_TOKEN must be of this run, in every task.",
                    ) from error
                if self._clock.monotonic() - began > self._patience_s:
                    raise UnavailableError(
                        f"no answer from the federated server by {self._reach.name} for {self._patience_s:.0f} s: "
                        f"{error}",
                        hint="Look at the log of the run's server task.",
                    ) from error
            time.sleep(pause)
            pause = min(pause * 2, 2.0)

    def _once(self, method: str, path: str, body: bytes, encoding: str) -> bytes:
        if self._connection is None:
            self._connection = http.client.HTTPConnection("server")
            self._connection.sock = self._reach.dial()
        headers = {"content-length": str(len(body))} | ({"content-encoding": encoding} if encoding else {})
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status >= 400:
            raise _error(data, answer.status)
        if answer.will_close:
            self.close()
        return unwrapped(data, answer.headers.get("content-encoding", ""))


def _is_refusal(error: Exception) -> bool:
    """Whether the other side has ended the handshake because of our certificate."""
    reason = str(error.reason) if isinstance(error, ssl.SSLError) else ""
    return "ALERT" in reason and any(word in reason for word in ("UNKNOWN_CA", "CERTIFICATE", "DECRYPT_ERROR"))


def _error(body: bytes, status: int) -> NexusError:
    try:
        said = msgspec.json.decode(body)
    except msgspec.DecodeError:
        said = {}
    return from_dict(said if isinstance(said, dict) else {}, status)
