"""Post rounds to the control plane, so that Studio can show them. The rounds go on whether it answers or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import structlog

from nexus.federate.model import Round
from nexus.infra.http_client import HttpClient
from nexus.kernel.errors import NexusError

log = structlog.get_logger()


class Reporter:
    """Posts each round once it can; what could not be posted is posted with the next."""

    def __init__(self, http: HttpClient | None, run: str) -> None:
        self._http = http
        self._run = run
        self._posted = 0  # how many of the run's first rounds are known to be there

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Reporter:
        """A reporter for the run this process is a task of; one that does nothing elsewhere."""
        url, token, run = (env.get(f"NEXUS_{name}", "") for name in ("API_URL", "TOKEN", "RUN_ID"))
        known = url and token and run
        return cls(HttpClient(url, token, timeout_s=5.0) if known else None, run)

    def post(self, rounds: Sequence[Round]) -> None:
        """Post those that are not known to be there. Never raises."""
        if self._http is None or self._posted >= len(rounds):
            return
        try:
            self._http.post(f"/v1/runs/{self._run}/rounds", dict[str, int], list(rounds[self._posted :]))
        except NexusError as error:
            log.warning("federate.report_failed", error=error.message, rounds=len(rounds) - self._posted)
            return
        self._posted = len(rounds)
