"""The HTTP client behind the command line and `nexus.Client`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import msgspec

from nexus.infra.http_wire import HttpWire, Request, Stream, target_of
from nexus.kernel.errors import NexusError, UnavailableError, UsageError, from_dict

T = TypeVar("T")
_STRANGER_HINT = "Is that the URL of a Nexus server, and of the same version as this program?"


class Wire(Protocol):
    """How requests reach a server: `HttpWire`, or in a test the application itself."""

    def exchange(self, request: Request) -> AbstractContextManager[Stream]:
        """Send it; gives the answer to read."""

    def close(self) -> None:
        """Give back what is open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer."""

    method: str
    url: str
    status: int
    headers: Mapping[str, str]  # by lower-case name
    content: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode("utf-8", "replace")


class HttpClient:
    """One server, one token. Errors come back as the server's own classes of the tree."""

    def __init__(
        self, url: str, token: str, *, project: str = "", timeout_s: float = 30.0, wire: Wire | None = None
    ) -> None:
        """`project`, where it is not the token's own. Raises UsageError for what is no URL."""
        self.url = url.rstrip("/")
        self.token = token
        self.project = project
        self._headers = headers_of(token, project)
        self._timeout_s = timeout_s
        self._wire = wire or HttpWire(self.url)

    def close(self) -> None:
        self._wire.close()

    def call(self, method: str, path: str, kind: type[T], /, *, body: Any = None, **params: Any) -> T:
        """Send `body` (dataclasses are fine) as JSON, and decode the answer as `kind`. Raises NexusError."""
        return decoded(self.request(method, path, **arguments(body, params)), kind)

    def get(self, path: str, kind: type[T], /, **params: Any) -> T:
        """`call("GET", ...)`."""
        return self.call("GET", path, kind, **params)

    def post(self, path: str, kind: type[T], /, body: Any = None, **params: Any) -> T:
        """`call("POST", ...)`."""
        return self.call("POST", path, kind, body=body, **params)

    def request(self, method: str, path: str, **arguments: Any) -> Answer:
        """A plain request; the answer is a success. Raises NexusError.

        `params`, `headers`, `timeout` in seconds, and `content`: bytes, or chunks whose size the header
        `content-length` says.
        """
        with self.stream(method, path, **arguments) as response:
            return self._answer(method, path, response)

    @contextmanager
    def stream(self, method: str, path: str, **arguments: Any) -> Iterator[Stream]:
        """A streamed answer. Raises NexusError."""
        with self._wire.exchange(self._request(method, path, **arguments)) as response:
            if response.status >= 400:
                raise refusal(self._answer(method, path, response))
            yield response

    def _answer(self, method: str, path: str, response: Stream) -> Answer:
        content = response.read()
        return Answer(
            method=method, url=self.url + path, status=response.status, headers=response.headers, content=content
        )

    def _request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        content: Any = b"",
        timeout: float | None = None,
    ) -> Request:
        named = {name.lower(): value for name, value in (headers or {}).items()}
        return Request(
            method=method,
            target=target_of(path, params or {}),
            headers={"user-agent": "nexus", **self._headers, **named},
            body=content or b"",
            timeout_s=self._timeout_s if timeout is None else timeout,
        )


def headers_of(token: str, project: str = "") -> dict[str, str]:
    """What every request says of who asks. Raises UsageError for what no header can carry."""
    for name, value in (("token", token), ("project", project)):
        if not value.isascii() or not value.isprintable():
            raise UsageError(f"that is no {name}: it has characters that none has", hint=f"Copy the {name} again.")
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return headers | ({"nexus-project": project} if project else {})


def arguments(body: Any, params: dict[str, Any]) -> dict[str, Any]:
    """What a request is told: the body as JSON (dataclasses are fine), parameters without those that are None."""
    content = msgspec.json.encode(body) if body is not None else None
    headers = {"content-type": "application/json"} if body is not None else {}
    given = {name: value for name, value in params.items() if value is not None}
    return {"content": content, "headers": headers, "params": given}


def decoded(answer: Answer, kind: type[T]) -> T:
    """The answer as a value. Raises UnavailableError if it is something else: not a Nexus server, or an older one."""
    try:
        return msgspec.json.decode(answer.content or b"null", type=kind)
    except msgspec.DecodeError as error:
        said = f"the answer of {answer.url} to {answer.method} is not understood: {error}"
        raise UnavailableError(said, hint=_STRANGER_HINT) from error


def refusal(answer: Answer) -> NexusError:
    """The error of the tree that an answer carries."""
    try:
        body = msgspec.json.decode(answer.content)
    except msgspec.DecodeError:
        body = {}
    if not isinstance(body, dict) or not isinstance(body.get("error"), dict):
        body = {"error": {"hint": _STRANGER_HINT}}  # some other program's, or a proxy's
    return from_dict(body, answer.status)
