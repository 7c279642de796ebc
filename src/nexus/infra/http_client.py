"""The HTTP client behind the command line and `nexus.Client`. Not for data paths: httpx costs 1-2 ms a request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
import msgspec

from nexus.kernel.errors import NexusError, UnavailableError, UsageError, from_dict

T = TypeVar("T")
_URL_HINT = "Such as http://127.0.0.1:7717"
_STRANGER_HINT = "Is that the URL of a Nexus server, and of the same version as this program?"


class HttpClient:
    """One server, one token. Errors come back as the server's own classes of the tree."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        project: str = "",
        timeout_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`project`, where it is not the token's own. Raises UsageError for what is no URL."""
        self.url = url.rstrip("/")
        self.token = token
        self.project = project
        self._http = httpx.Client(**client_arguments(self.url, token, timeout_s, project), transport=transport)

    def close(self) -> None:
        self._http.close()

    def call(self, method: str, path: str, kind: type[T], /, *, body: Any = None, **params: Any) -> T:
        """Send `body` (dataclasses are fine) as JSON, and decode the answer as `kind`. Raises NexusError."""
        return decoded(self.request(method, path, **arguments(body, params)), kind)

    def get(self, path: str, kind: type[T], /, **params: Any) -> T:
        """`call("GET", ...)`."""
        return self.call("GET", path, kind, **params)

    def post(self, path: str, kind: type[T], /, body: Any = None, **params: Any) -> T:
        """`call("POST", ...)`."""
        return self.call("POST", path, kind, body=body, **params)

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """A plain request; the answer is a success. Raises NexusError."""
        try:
            response = self._http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise no_answer(self.url, error) from error
        if response.is_error:
            raise refusal(response)
        return response

    @contextmanager
    def stream(self, method: str, path: str, **arguments: Any) -> Iterator[httpx.Response]:
        """A streamed answer. Raises NexusError."""
        try:
            with self._http.stream(method, path, **arguments) as response:
                if response.is_error:
                    response.read()
                    raise refusal(response)
                yield response
        except httpx.HTTPError as error:
            raise no_answer(self.url, error) from error


def client_arguments(url: str, token: str, timeout_s: float, project: str = "") -> dict[str, Any]:
    """What httpx is told of a server. Raises UsageError for what is no URL."""
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"{url!r} is not the URL of a server", hint=_URL_HINT)
    try:
        base = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise UsageError(f"{url!r} is not the URL of a server: {error}", hint=_URL_HINT) from error
    headers = {"authorization": f"Bearer {token}"} if token else {}
    if project:
        headers["nexus-project"] = project
    return {"base_url": base, "headers": headers, "timeout": timeout_s}


def arguments(body: Any, params: dict[str, Any]) -> dict[str, Any]:
    """What a request is told: the body as JSON (dataclasses are fine), parameters without those that are None."""
    content = msgspec.json.encode(body) if body is not None else None
    headers = {"content-type": "application/json"} if body is not None else {}
    given = {name: value for name, value in params.items() if value is not None}
    return {"content": content, "headers": headers, "params": given}


def decoded(response: httpx.Response, kind: type[T]) -> T:
    """The answer as a value. Raises UnavailableError if it is something else: not a Nexus server, or an older one."""
    try:
        return msgspec.json.decode(response.content or b"null", type=kind)
    except msgspec.DecodeError as error:
        request = response.request
        said = f"the answer of {request.url} to {request.method} is not understood: {error}"
        raise UnavailableError(said, hint=_STRANGER_HINT) from error


def no_answer(url: str, error: httpx.HTTPError) -> UnavailableError:
    """The server did not answer."""
    return UnavailableError(
        f"no answer from {url}: {str(error) or type(error).__name__}",
        hint="Is the server up? Start one here with `nexus up`, or name another with NEXUS_URL.",
    )


def refusal(response: httpx.Response) -> NexusError:
    """The error of the tree that an answer carries."""
    try:
        body = response.json()
    except ValueError:
        body = {}
    if not isinstance(body, dict) or not isinstance(body.get("error"), dict):
        body = {"error": {"hint": _STRANGER_HINT}}  # some other program's, or a proxy's
    return from_dict(body, response.status_code)
