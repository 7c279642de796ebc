"""A call: a stream of messages between somebody who asks and a task (or a node), through the server.

Agents dial out only, so nobody can reach a task directly. The caller asks the server for a call; the server tells the
node's agent in what should be (`protocol.Desired.calls`); the agent dials out, and the server passes on each message as
it came. A message is one byte that says what it is (`Part`), and bytes. The parts of the two kinds:

    exec   caller: IN, IN_END, SIZE, SIGNAL    node: OUT, ERR, then EXIT
    port   caller: IN, IN_END                  node: OUT, OUT_END

Both sides send BEAT while they have nothing to say, so that proxies keep the line and a dead peer is noticed, however
long the other direction is held up by a slow reader. Whoever cannot go on says FAILED, with the error as the HTTP API
would answer it, and hangs up.

    POST /v1/runs/{run}/calls     CallRequest -> Call
    POST /v1/nodes/{node}/calls   CallRequest -> Call
    WS   /v1/calls/{id}           the caller's side, once
    WS   /v1/agent/calls/{id}     the node's side, once
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, StrEnum

import msgspec

from nexus.kernel.errors import NexusError, UnavailableError, UsageError, from_dict

CHUNK_B = 128 * 1024  # of a stream in one message
MESSAGE_B = 512 * 1024  # the longest message anybody takes
BEAT_S = 15.0
SILENCE_S = 3 * BEAT_S  # without even a beat: the other side is gone


class CallKind(StrEnum):
    """What is at the far end."""

    EXEC = "exec"  # a process, started for the call in the task's environment
    PORT = "port"  # a connection to a TCP port on which the task listens


class Part(IntEnum):
    """What a message is: its first byte."""

    IN = 0
    OUT = 1
    ERR = 2
    IN_END = 3
    OUT_END = 4
    SIZE = 5  # the terminal's rows and columns
    SIGNAL = 6  # for the process; one byte
    EXIT = 7  # the process has ended; its code, negative for a signal
    FAILED = 8
    BEAT = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRequest:
    """What a caller wants. No role and index: the run's first task that runs."""

    kind: CallKind
    role: str = ""
    index: int | None = None
    argv: tuple[str, ...] = ()  # exec: the program and its arguments
    tty: bool = False  # exec: on a terminal of its own
    rows: int = 24
    columns: int = 80
    term: str = ""  # the caller's TERM
    port: str = ""  # port: one of the job's by its name, or a number


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call that waits for its two sides. Its id works once, for who asked."""

    id: str
    kind: CallKind
    node: str
    run: str = ""
    task: str = ""
    role: str = ""
    index: int = 0
    port: int = 0


def message(part: Part, data: bytes = b"") -> bytes:
    """One message."""
    return bytes((part,)) + data


def opened(data: bytes) -> tuple[Part, bytes]:
    """What a message is, and what it holds. Raises UsageError for what is none."""
    try:
        return Part(data[0]), data[1:]
    except (IndexError, ValueError) as error:
        raise UsageError("a call's message is not understood", hint="Have both sides the same version?") from error


def size_message(rows: int, columns: int) -> bytes:
    """The terminal has this size now."""
    return message(Part.SIZE, struct.pack(">HH", min(rows, 65535), min(columns, 65535)))


def read_size(data: bytes) -> tuple[int, int]:
    """Rows and columns. Raises UsageError."""
    return _unpacked(">HH", data)  # type: ignore[return-value]


def exit_message(code: int) -> bytes:
    """The process has ended; negative for a signal."""
    return message(Part.EXIT, struct.pack(">i", code))


def read_exit(data: bytes) -> int:
    """The exit code. Raises UsageError."""
    return _unpacked(">i", data)[0]


def read_signal(data: bytes) -> int:
    """A signal's number. Raises UsageError."""
    number = _unpacked(">B", data)[0]
    if not 1 <= number <= 31:
        raise UsageError(f"{number} is no signal")
    return number


def failed_message(error: NexusError) -> bytes:
    """The call cannot go on, and why."""
    return message(Part.FAILED, msgspec.json.encode(error.as_dict(), enc_hook=str)[: MESSAGE_B - 1])


def read_failure(data: bytes) -> NexusError:
    """The error that ended the call."""
    try:
        body = msgspec.json.decode(data, type=dict)
    except msgspec.DecodeError:
        return UnavailableError("the call failed, and nobody could say why")
    return from_dict(body, 503)


def _unpacked(form: str, data: bytes) -> tuple[int, ...]:
    try:
        return struct.unpack(form, data)
    except struct.error as error:
        raise UsageError("a call's message is not understood") from error
