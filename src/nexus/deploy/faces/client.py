"""Deploy over HTTP, typed: what the command line and `nexus.Client` use."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

from nexus.deploy.model import Deployment, EndpointState, EndpointView
from nexus.infra.http_client import HttpClient
from nexus.kernel.errors import JobError, NotFoundError, UnavailableError

_POLL_S = 0.3


@dataclass(frozen=True)
class DeployClient:
    """The routes of `faces/api.py`. Every call raises NexusError."""

    http: HttpClient

    def list(self) -> list[EndpointView]:
        return self.http.get("/v1/endpoints", list[EndpointView])

    def show(self, name: str) -> EndpointView:
        return self.http.get(f"/v1/endpoints/{_part(name)}", EndpointView)

    def find(self, name: str) -> EndpointView | None:
        """The endpoint, or None."""
        try:
            return self.show(name)
        except NotFoundError:
            return None

    def deploy(self, deployment: Deployment) -> EndpointView:
        return self.http.post("/v1/endpoints", EndpointView, deployment)

    def rollback(self, name: str, to: int = 0) -> EndpointView:
        return self.http.post(f"/v1/endpoints/{_part(name)}/rollback", EndpointView, to=to)

    def delete(self, name: str) -> None:
        self.http.request("DELETE", f"/v1/endpoints/{_part(name)}")

    def predict(self, view: EndpointView, inputs: bytes, timeout_s: float) -> bytes:
        """The endpoint's answer to `inputs` (JSON), by way of the gateway."""
        gateway = HttpClient(view.url, self.http.token, timeout_s=timeout_s)
        try:
            headers = {"content-type": "application/json"}
            return gateway.request("POST", "/predict", content=inputs, headers=headers).content
        finally:
            gateway.close()

    def follow(self, name: str, *, newest: bool = True, timeout_s: float = 600.0) -> Iterator[EndpointView]:
        """The endpoint at each change, until it serves in full: its newest revision, or with `newest=False` any.

        Raises JobError when the newest revision is bad (or, with `newest=False`, nothing can serve), UnavailableError
        after `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        seen: EndpointView | None = None
        while True:
            view = self.show(name)
            if seen is None or _essence(view) != _essence(seen):
                seen = view
                yield view
            if (view.fault and newest) or view.state is EndpointState.FAILED:
                raise JobError(view.fault or view.reason, hint=f"See its replicas' log: nexus logs {_run_of(view)}")
            if view.state is EndpointState.READY:
                return
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"{name} is not ready after {timeout_s:.0f} s: {view.reason or view.state}",
                    hint=f"nexus endpoints show {name}",
                )
            time.sleep(_POLL_S)


def _part(name: str) -> str:
    return quote(name, safe="")


def _essence(view: EndpointView) -> tuple[object, ...]:
    return (view.state, view.reason, view.ready, view.replicas, view.revision, *(r.detail for r in view.running))


def _run_of(view: EndpointView) -> str:
    """The run of the newest revision that has one: where the log of what went wrong is."""
    return next((r.run for r in reversed(view.revisions) if r.run), view.name)
