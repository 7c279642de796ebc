"""A typed client of the Job Store's routes."""

from __future__ import annotations

from collections.abc import Mapping

from nexus.infra.http_client import HttpClient
from nexus.store.model import Launched, Order, Preview, TemplateView


class StoreClient:
    """What the command line and `nexus.Client` ask of a server."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    def list(self) -> list[TemplateView]:
        """Every template."""
        return self._http.get("/v1/templates", list[TemplateView])

    def show(self, name: str) -> TemplateView:
        """One template. Raises NotFoundError."""
        return self._http.get(f"/v1/templates/{name}", TemplateView)

    def preview(self, name: str, values: Mapping[str, str]) -> Preview:
        """What a launch would do. Raises UsageError with `fields`."""
        return self._http.post(f"/v1/templates/{name}/preview", Preview, Order(values=dict(values)))

    def launch(self, name: str, values: Mapping[str, str]) -> Launched:
        """Launch it. Raises UsageError with `fields`."""
        return self._http.post(f"/v1/templates/{name}/launch", Launched, Order(values=dict(values)))
