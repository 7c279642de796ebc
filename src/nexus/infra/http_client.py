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
        self, url: str, token: str, *, timeout_s: float = 30.0, transport: httpx.BaseTransport | None = None
    ) -> None:
        """Raises UsageError for what is no URL."""
        self.url = url.rstrip("/")
        self.token = token
        if not self.url.startswith(("http://", "https://")):
            raise UsageError(f"{url!r} is not the URL of a server", hint=_URL_HINT)
        headers = {"authorization": f"Bearer {token}"} if token else {}
        try:
            self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout_s, transport=transport)
        except httpx.InvalidURL as error:
            raise UsageError(f"{url!r} is not the URL of a server: {error}", hint=_URL_HINT) from error

    def close(self) -> None:
        self._http.close()

    def call(self, method: str, path: str, kind: type[T], /, *, body: Any = None, **params: Any) -> T:
        """Send `body` (dataclasses are fine) as JSON, and decode the answer as `kind`. Raises NexusError."""
        content = msgspec.json.encode(body) if body is not None else None
        headers = {"content-type": "application/json"} if body is not None else {}
        response = self.request(method, path, content=content, headers=headers, params=_given(params))
        try:
            return msgspec.json.decode(response.content or b"null", type=kind)
        except msgspec.DecodeError as error:
            said = f"the answer of {self.url} to {method} {path} is not understood: {error}"
            raise UnavailableError(said, hint=_STRANGER_HINT) from error

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
            raise self._unavailable(error) from error
        if response.is_error:
            raise _error(response)
        return response

    @contextmanager
    def stream(self, method: str, path: str, **arguments: Any) -> Iterator[httpx.Response]:
        """A streamed answer. Raises NexusError."""
        try:
            with self._http.stream(method, path, **arguments) as response:
                if response.is_error:
                    response.read()
                    raise _error(response)
                yield response
        except httpx.HTTPError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: httpx.HTTPError) -> UnavailableError:
        return UnavailableError(
            f"no answer from {self.url}: {str(error) or type(error).__name__}",
            hint="Is the server up? Start one here with `nexus up`, or name another with NEXUS_URL.",
        )


def _given(params: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _error(response: httpx.Response) -> NexusError:
    try:
        body = response.json()
    except ValueError:
        body = {}
    if not isinstance(body, dict) or not isinstance(body.get("error"), dict):
        body = {"error": {"hint": _STRANGER_HINT}}  # some other program's, or a proxy's
    return from_dict(body, response.status_code)
