"""How messages are written: heads as lists of bytes, joined once, sent once."""

from __future__ import annotations

from nexus.deploy.core.headers import STATUS_LINES, AnswerHead, RequestHead
from nexus.deploy.model import Replica

_WITH_BODY = frozenset({b"POST", b"PUT", b"PATCH"})


def request(head: RequestHead, path: bytes, address: tuple[str, int], peer: bytes) -> list[bytes]:
    """A request's head for a replica, without its framing and its last line."""
    host, port = address
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    start = b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (head.method, path, authority.encode())
    return [start, head.lines, b"x-forwarded-for: %b\r\nx-forwarded-host: %b\r\n" % (peer, head.host)]


def whole_body(head: RequestHead, parts: list[bytes], size: int) -> list[bytes]:
    """The framing of a body that is at hand, and the body."""
    if size or head.length or head.chunked or head.method in _WITH_BODY:
        return [b"content-length: %d\r\n\r\n" % size, *parts]
    return [b"\r\n"]


def answer(status: int, head: AnswerHead) -> list[bytes]:
    """A replica's answer's head for the client, without the gateway's own fields and the last line."""
    lines = [STATUS_LINES.get(status) or b"HTTP/1.1 %d Unnamed\r\n" % status, head.lines]
    if head.length is not None:
        lines.append(b"content-length: %d\r\n" % head.length)
    return lines


def stamp(replica: Replica) -> bytes:
    """Who answered."""
    return b"x-nexus-replica: %b\r\nx-nexus-revision: %d\r\n" % (replica.id.encode(), replica.revision)


def own_answer(status: int, body: bytes, kind: bytes, *, retry: bool, close: bool) -> bytes:
    """An answer of the gateway itself, whole."""
    return b"".join(
        [
            STATUS_LINES[status],
            b"content-type: %b\r\ncontent-length: %d\r\n" % (kind, len(body)),
            b"retry-after: 1\r\n" if retry else b"",
            b"www-authenticate: Bearer\r\n" if status == 401 else b"",
            b"connection: close\r\n\r\n" if close else b"\r\n",
            body,
        ]
    )
