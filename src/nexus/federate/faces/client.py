"""A typed client of Federate's routes."""

from __future__ import annotations

from nexus.federate.model import Round
from nexus.infra.http_client import HttpClient


class FederateClient:
    """What the command line and `nexus.Client` ask of a server."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    def rounds(self, run: str, *, after: int = 0) -> list[Round]:
        """The rounds of a run above number `after`. Raises NotFoundError."""
        return self._http.get(f"/v1/runs/{run}/rounds", list[Round], after=after)
