"""What a proxy may pass on (RFC 9110 7.6, RFC 9112), and what it must refuse so that both sides read the same message.

The gateway never forwards a message's own framing: it reads one, and writes a new one. What it cannot read in exactly
one way is refused, not repaired: that is what request smuggling lives on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from nexus.kernel.errors import UsageError

Headers = Sequence[tuple[bytes, bytes]]

# What ends at this hop, whatever its value.
_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)
# What is meant for the gateway, or is said anew by it. Keys and cookies never reach the code of a replica.
_MINE = frozenset(
    {
        b"host",
        b"authorization",
        b"x-api-key",
        b"cookie",
        b"content-length",
        b"expect",
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
    }
)
_FROM_CLIENT = _HOP | _MINE
# Cookies do not know ports: one set by a replica would reach the console on the same machine.
_FROM_REPLICA = _HOP | {b"content-length", b"set-cookie", b"x-nexus-replica", b"x-nexus-revision"}

STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


@dataclass(slots=True)
class RequestHead:
    """A request's head, as far as a proxy needs it. `lines` are the fields to pass on."""

    method: bytes
    target: bytes
    lines: bytes
    host: bytes = b""
    key: str = ""
    length: int = 0
    chunked: bool = False
    expects: bool = False  # waits for "100 Continue" before it sends its body
    close: bool = False
    old: bool = False  # HTTP/1.0: knows no chunks
    request_id: bytes = b""


@dataclass(slots=True)
class AnswerHead:
    """A replica's answer's head. `length` None: until the end of the chunks, or of the connection."""

    lines: bytes
    length: int | None = None
    chunked: bool = False


def read_request(method: bytes, target: bytes, version: str, headers: Headers) -> RequestHead:
    """Raises UsageError for what could be read in two ways."""
    head = RequestHead(method, target, b"", old=version == "1.0")
    if version not in {"1.1", "1.0"}:
        raise UsageError(f"HTTP/{version} is not spoken here")
    if not target.startswith(b"/"):
        raise UsageError("the request's target must be a path")
    seen = _Seen()
    kept: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        low = name.lower()
        if low in _FROM_CLIENT:
            _note(head, seen, low, value)
        else:
            kept.append((low, value))
            if low == b"x-request-id":
                head.request_id = value
    _check_framing(head, seen)
    head.close = head.old or b"close" in seen.nominated
    head.lines = _join(kept, seen.nominated)
    return head


@dataclass(slots=True)
class _Seen:
    """How often a request said what it may say once, and which fields its `Connection` nominates."""

    hosts: int = 0
    lengths: int = 0
    encodings: int = 0
    nominated: frozenset[bytes] = frozenset()


def _note(head: RequestHead, seen: _Seen, low: bytes, value: bytes) -> None:
    """A field that ends here: what it says to us."""
    if low == b"host":
        seen.hosts += 1
        head.host = value
    elif low == b"content-length":
        seen.lengths += 1
        head.length = _length(value)
    elif low == b"authorization":
        head.key = _bearer(value)
    elif low == b"x-api-key":
        head.key = head.key or value.decode("latin-1").strip()
    elif low == b"connection":
        seen.nominated |= _tokens(value)
    elif low == b"transfer-encoding":
        seen.encodings += 1
        head.chunked = _chunked(value)
    elif low == b"expect":
        head.expects = value.lower() == b"100-continue"


def _check_framing(head: RequestHead, seen: _Seen) -> None:
    if seen.lengths > 1 or seen.encodings > 1 or (seen.lengths and seen.encodings):
        raise UsageError("the request says its length in two ways")
    if seen.encodings and head.old:
        raise UsageError("HTTP/1.0 has no Transfer-Encoding")
    if seen.hosts > 1 or (not seen.hosts and not head.old):
        raise UsageError("a request needs one Host")


def _length(value: bytes) -> int:
    if not value.isdigit() or len(value) > 18:
        raise UsageError("the Content-Length is not a number")
    return int(value)


def _chunked(value: bytes) -> bool:
    if value.strip().lower() != b"chunked":
        raise UsageError("the only Transfer-Encoding understood here is chunked")
    return True


def _tokens(value: bytes) -> frozenset[bytes]:
    return frozenset(token.strip().lower() for token in value.split(b","))


def _bearer(value: bytes) -> str:
    scheme, _, token = value.partition(b" ")
    return token.strip().decode("latin-1") if scheme.lower() == b"bearer" else ""


def _join(kept: list[tuple[bytes, bytes]], nominated: frozenset[bytes]) -> bytes:
    """Fields as they are written. Raises UsageError for a value that would begin a line of its own."""
    if nominated - {b"keep-alive", b"close", b""}:
        kept = [(name, value) for name, value in kept if name not in nominated]
    lines = b"".join([b"%b: %b\r\n" % field for field in kept])
    if lines.count(b"\n") != len(kept) or lines.count(b"\r") != len(kept):
        raise UsageError("a header's value holds a line end")
    return lines


def read_answer(headers: Headers) -> AnswerHead:
    """Raises UsageError for an answer that could be read in two ways."""
    head = AnswerHead(b"")
    nominated: frozenset[bytes] = frozenset()
    kept: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        low = name.lower()
        if low not in _FROM_REPLICA:
            kept.append((low, value))
        elif low == b"content-length":
            if head.length is not None:
                raise UsageError("the answer says its length twice")
            head.length = _length(value)
        elif low == b"transfer-encoding":
            head.chunked = _chunked(value)
        elif low == b"connection":
            nominated |= _tokens(value)
    if head.chunked and head.length is not None:
        raise UsageError("the answer says its length in two ways")
    head.lines = _join(kept, nominated)
    return head
