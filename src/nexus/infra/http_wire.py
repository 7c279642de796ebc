"""A blocking HTTP/1.1 client on the standard library: kept connections, TLS, proxies, bodies that stream both ways.

For the command line and `nexus.Client`: importing httpx takes longer than a whole `nexus runs` may.
"""

from __future__ import annotations

import os
import re
import select
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead, RemoteDisconnected
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import SplitResult, quote, unquote, urlencode, urlsplit

from nexus.kernel.errors import UnavailableError, UsageError

if TYPE_CHECKING:
    import ssl

URL_HINT = "Such as http://127.0.0.1:7717"
_UP_HINT = "Is the server up? Start one here with `nexus up`, or name another with NEXUS_URL."
_IDLE_KEPT = 4  # connections that wait for the next request
_CHUNK_B = 64 * 1024
_LINE_B = 64 * 1024 * 1024  # of a stream of events; a longer line is not meant
_NO_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")

Body = bytes | Iterable[bytes]  # the whole, or chunks: then a header says their size


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked. `timeout_s` bounds each wait for the other side, not the whole."""

    method: str
    target: str
    headers: Mapping[str, str]  # by lower-case name
    body: Body
    timeout_s: float


class Stream(Protocol):
    """An answer whose body is still to be read. What reads it raises UnavailableError when it breaks off."""

    status: int
    headers: Mapping[str, str]

    def read(self) -> bytes:
        """What is left of the body."""

    def iter_bytes(self, chunk_b: int = _CHUNK_B) -> Iterator[bytes]:
        """The body in chunks of at most so many bytes."""

    def iter_lines(self) -> Iterator[str]:
        """The body's lines as they come, without their ends."""


class HttpWire:
    """One server, by a URL that may have a path, before which nothing else is asked for.

    Threads may share it. Proxies are taken from HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY.
    """

    def __init__(self, url: str) -> None:
        """Raises UsageError for what is no URL."""
        parts = _parts(url)
        is_safe = parts.scheme == "https"
        self._url = url
        self._host, self._port = parts.hostname or "", parts.port or (443 if is_safe else 80)
        self._prefix = parts.path.rstrip("/")
        self._tls = _trust() if is_safe else None
        self._proxy = _proxy(parts.scheme, self._host, self._port)
        self._idle: deque[HTTPConnection] = deque()

    def close(self) -> None:
        """Give back the connections that wait."""
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def exchange(self, request: Request) -> Iterator[Stream]:
        """Send a request, and give its answer to read.

        Raises UnavailableError without an answer, or without all of it; what a body's iterator raises, as it is.
        """
        guard = _Guard(self._url, request.timeout_s)
        connection, response = self._asked(request, guard)
        try:
            yield _Reply(response, guard)
        except BaseException:
            connection.close()
            raise
        if response.isclosed() and not response.will_close and len(self._idle) < _IDLE_KEPT:
            self._idle.append(connection)
        else:
            connection.close()

    def _asked(self, request: Request, guard: _Guard) -> tuple[HTTPConnection, HTTPResponse]:
        """A kept connection may end at the very moment that it is used: what only reads is then asked once more."""
        kept = self._kept(request.timeout_s)
        if kept is not None:
            try:
                return kept, self._send(kept, request, guard)
            except UnavailableError as error:
                if not isinstance(error.__cause__, ConnectionError) or request.method not in {"GET", "HEAD"}:
                    raise
        new = self._new(request.timeout_s)
        return new, self._send(new, request, guard)

    def _kept(self, timeout_s: float) -> HTTPConnection | None:
        """One that still stands."""
        while self._idle:
            try:
                kept = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if not _is_over(kept):
                kept.sock.settimeout(timeout_s)
                return kept
            kept.close()
        return None

    def _new(self, timeout_s: float) -> HTTPConnection:
        """One that is not open yet."""
        host, port = (self._proxy.hostname or "", self._proxy.port or 80) if self._proxy else (self._host, self._port)
        if self._tls is None:
            return HTTPConnection(host, port, timeout=timeout_s)
        from http.client import HTTPSConnection

        made = HTTPSConnection(host, port, timeout=timeout_s, context=self._tls)
        if self._proxy:
            made.set_tunnel(self._host, self._port, headers=_proxy_login(self._proxy))
        return made

    def _send(self, connection: HTTPConnection, request: Request, guard: _Guard) -> HTTPResponse:
        try:
            size = self._send_head(connection, request, guard)
            _send_body(connection, (request.body,) if isinstance(request.body, bytes) else request.body, size)
            with guard:
                return connection.getresponse()
        except BaseException:
            connection.close()
            raise

    def _send_head(self, connection: HTTPConnection, request: Request, guard: _Guard) -> int:
        """The bytes that its body has to have."""
        headers = dict(request.headers)
        target = self._prefix + request.target
        if self._proxy and self._tls is None:
            name = f"[{self._host}]" if ":" in self._host else self._host
            target = f"http://{name}:{self._port}{target}"
            headers |= _proxy_login(self._proxy)
        if isinstance(request.body, bytes) and (request.body or request.method in {"POST", "PUT"}):
            headers["content-length"] = str(len(request.body))
        connection.putrequest(request.method, target, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        with guard:
            connection.endheaders()
        return int(headers.get("content-length", 0))


class _Reply:
    """A `Stream` over the standard library's response."""

    def __init__(self, response: HTTPResponse, guard: _Guard) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.getheaders()}
        self._response = response
        self._guard = guard

    def read(self) -> bytes:
        with self._guard:
            return self._response.read()

    def iter_bytes(self, chunk_b: int = _CHUNK_B) -> Iterator[bytes]:
        while True:
            with self._guard:
                chunk = self._response.read(chunk_b)
                if not chunk and self._response.length:
                    raise IncompleteRead(b"", self._response.length)
            if not chunk:
                return
            yield chunk

    def iter_lines(self) -> Iterator[str]:
        while True:
            with self._guard:
                line = self._response.readline(_LINE_B)
                if not line and self._response.length:
                    raise IncompleteRead(b"", self._response.length)
            if not line:
                return
            yield line.decode("utf-8", "replace").rstrip("\r\n")


class _Guard:
    """Around whatever waits for the other side: its errors become one of the tree."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url = url
        self._timeout_s = timeout_s

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, OSError | HTTPException):
            raise no_answer(self._url, _why(error, self._timeout_s)) from error


def no_answer(url: str, why: str) -> UnavailableError:
    """The server did not answer."""
    return UnavailableError(f"no answer from {url}: {why}", hint=_UP_HINT)


def target_of(path: str, params: Mapping[str, Any]) -> str:
    """The path as a request names it, with what is asked beside it: lists are repeated, and None is left out."""
    words = {True: "true", False: "false"}
    given = [
        (name, words.get(one, one) if isinstance(one, bool) else one)
        for name, value in params.items()
        for one in (value if isinstance(value, list | tuple) else [value])
        if one is not None
    ]
    quoted = quote(_NO_ESCAPE.sub("%25", path), safe="/?%:@!$&'()*+,;=~")
    return quoted + ("&" if "?" in quoted else "?") + urlencode(given) if given else quoted


def _send_body(connection: HTTPConnection, chunks: Iterable[bytes], size: int) -> None:
    """All of them, or as many as the other side wants to have: it may refuse long before. Raises UnavailableError."""
    sent = 0
    for chunk in chunks:
        sent += len(chunk)
        if sent > size:
            break
        try:
            if chunk:
                connection.send(chunk)
        except TimeoutError as error:
            raise UnavailableError("the server takes no more of what is sent", hint="Try again.") from error
        except OSError:
            return  # its answer says why
    if sent != size:
        raise UnavailableError("what is sent changed its size meanwhile", hint="Try again when it is at rest.")


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise UsageError(f"{url!r} is not the URL of a server: {error}", hint=URL_HINT) from error
    if not is_url or not url.isascii() or not url.isprintable() or " " in url:
        raise UsageError(f"{url!r} is not the URL of a server", hint=URL_HINT)
    return parts


def _is_over(connection: HTTPConnection) -> bool:
    """Whether a kept connection has ended meanwhile: then there is something to read, its end."""
    waiting = select.poll()
    waiting.register(connection.sock, select.POLLIN)
    return bool(waiting.poll(0))


def _trust() -> ssl.SSLContext:
    """The machine's own certificate authorities, and those of SSL_CERT_FILE."""
    import ssl

    return ssl.create_default_context()


def _proxy(scheme: str, host: str, port: int) -> SplitResult | None:
    """The proxy that the environment names for this server. Raises UsageError for one of another kind than HTTP."""
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

    named = getproxies_environment()
    url = named.get(scheme) or named.get("all")
    is_own = host in {"localhost", "::1"} or host.startswith("127.")  # which no proxy reaches
    if not url or is_own or proxy_bypass_environment(f"{host}:{port}", named):
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme != "http" or not parts.hostname:
        raise UsageError(
            f"the proxy {parts.scheme}://{parts.hostname} is of no kind that can be used",
            hint="Name an HTTP proxy, or except the server by NO_PROXY.",
        )
    return parts


def _proxy_login(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    import base64

    words = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"proxy-authorization": "Basic " + base64.b64encode(words.encode()).decode()}


def _why(error: OSError | HTTPException, timeout_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing came within {timeout_s:g} s"
    if isinstance(error, RemoteDisconnected):
        return "the connection was closed"
    if isinstance(error, IncompleteRead):
        return "the answer broke off"
    if isinstance(error, OSError):
        untrusted = getattr(error, "verify_message", "")  # of a certificate
        return f"its certificate is not trusted: {untrusted}" if untrusted else error.strerror or str(error)
    return f"the answer is no HTTP: {error!s:.100}"
