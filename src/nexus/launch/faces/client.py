"""Launch over HTTP, typed: what the command line and `nexus.Client` use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nexus.infra.http_client import HttpClient, decoded
from nexus.launch.faces.views import EventPage, FleetRequest, NodeUse, RunPage, RunSummary, ScaleRequest
from nexus.launch.model import RUN_LIFE, Fleet, Node, Placement, Quota, Run, Submission, Task, WhatIf

if TYPE_CHECKING:  # each is imported where it is asked for: `nexus runs` needs none of them
    from nexus.launch.calls import Call, CallRequest
    from nexus.launch.core.comparing import Comparison, OfferList
    from nexus.launch.core.costing import CostReport
    from nexus.launch.core.machines import FleetView
    from nexus.launch.core.queue.views import QuotaRequest, QuotaView, Waiting

_WAIT_S = 20.0  # below the HTTP client's own timeout
_PROVIDER_S = 150.0  # a provider that is asked now, answers for itself


@dataclass(frozen=True)
class LaunchClient:
    """The routes of `faces/api.py`. A run is named by id, the beginning of one, or its name."""

    http: HttpClient

    def submit(self, submission: Submission) -> Run:
        return self.http.post("/v1/runs", Run, submission)

    def submit_many(self, submissions: Sequence[Submission]) -> list[RunSummary]:
        """All of them, in their order, or none; at most 1,000 at once."""
        return self.http.post("/v1/runs/batch", list[RunSummary], list(submissions))

    def whatif(self, run: str) -> list[WhatIf]:
        """Changes that would give a waiting run a place, or a cheaper one."""
        return self.http.get(f"/v1/runs/{run}/whatif", list[WhatIf])

    def plan(self, submission: Submission) -> Placement:
        return self.http.post("/v1/runs/plan", Placement, submission)

    def page(
        self,
        *,
        limit: int = 50,
        cursor: str | None = None,
        name: str | None = None,
        state: str | None = None,
        kind: str | None = None,
        user: str | None = None,
    ) -> RunPage:
        return self.http.get(
            "/v1/runs", RunPage, limit=limit, cursor=cursor, name=name, state=state, kind=kind, user=user
        )

    def run(self, run: str) -> Run:
        return self.http.get(f"/v1/runs/{run}", Run)

    def watch(self, run: str, version: int, wait_s: float = _WAIT_S) -> Run:
        """The run as soon as it is not at `version` any more, or after `wait_s`."""
        return self.http.get(f"/v1/runs/{run}", Run, version=version, wait_s=wait_s)

    def follow(self, run: str) -> Iterator[Run]:
        """The run at each change, until it is over."""
        seen = self.run(run)
        yield seen
        while not RUN_LIFE.is_final(seen.state):
            now = self.watch(seen.id, seen.version)
            if now.version != seen.version:
                seen = now
                yield seen

    def tasks(self, run: str) -> list[Task]:
        return self.http.get(f"/v1/runs/{run}/tasks", list[Task])

    def run_events(self, run: str, *, after: int = 0, limit: int = 1000) -> EventPage:
        return self.http.get(f"/v1/runs/{run}/events", EventPage, after=after, limit=limit)

    def call(self, run: str, request: CallRequest) -> Call:
        """Ask for a call to a task; then open `WS /v1/calls/{id}` (see `faces.calling`)."""
        from nexus.launch.calls import Call

        return self.http.post(f"/v1/runs/{run}/calls", Call, request)

    def call_node(self, node: str, request: CallRequest) -> Call:
        """Ask for a call to a machine itself."""
        from nexus.launch.calls import Call

        return self.http.post(f"/v1/nodes/{node}/calls", Call, request)

    def stop(self, run: str) -> Run:
        return self.http.post(f"/v1/runs/{run}/stop", Run)

    def restart(self, run: str) -> Run:
        return self.http.post(f"/v1/runs/{run}/restart", Run)

    def scale(self, run: str, role: str, count: int) -> Run:
        return self.http.post(f"/v1/runs/{run}/scale", Run, ScaleRequest(role=role, count=count))

    def nodes(self) -> list[NodeUse]:
        return self.http.get("/v1/nodes", list[NodeUse])

    def fleets(self) -> list[FleetView]:
        from nexus.launch.core.machines import FleetView

        return self.http.get("/v1/fleets", list[FleetView])

    def fleet(self, fleet: str, *, fresh: bool = False) -> FleetView:
        from nexus.launch.core.machines import FleetView

        answer = self.http.request("GET", f"/v1/fleets/{fleet}", params={"fresh": fresh}, timeout=_PROVIDER_S)
        return decoded(answer, FleetView)

    def add_fleet(self, wanted: FleetRequest) -> Fleet:
        return self.http.post("/v1/fleets", Fleet, wanted)

    def pause_fleet(self, fleet: str, *, paused: bool = True) -> Fleet:
        return self.http.post(f"/v1/fleets/{fleet}/pause", Fleet, on=paused)

    def remove_fleet(self, fleet: str) -> Fleet:
        return self.http.call("DELETE", f"/v1/fleets/{fleet}", Fleet)

    def drain(self, node: str, *, drain: bool = True) -> Node:
        return self.http.post(f"/v1/nodes/{node}/drain", Node, on=drain)

    def share(self, node: str, *, shared: bool = True) -> Node:
        return self.http.post(f"/v1/nodes/{node}/share", Node, on=shared)

    def remove(self, node: str) -> Node:
        return self.http.call("DELETE", f"/v1/nodes/{node}", Node)

    def events(
        self, *, after: int = 0, subject: str | None = None, newest: bool = False, limit: int = 100
    ) -> EventPage:
        return self.http.get("/v1/events", EventPage, after=after, subject=subject, newest=newest, limit=limit)

    def offers(
        self,
        *,
        gpu: str = "",
        cpu: str = "",
        memory: str = "",
        region: Sequence[str] = (),
        provider: Sequence[str] = (),
        spot: str = "auto",
        max_price: float | None = None,
        limit: int = 20,
    ) -> OfferList:
        from nexus.launch.core.comparing import OfferList

        return self.http.get(
            "/v1/offers",
            OfferList,
            gpu=gpu,
            cpu=cpu,
            memory=memory,
            region=region,
            provider=provider,
            spot=spot,
            max_price=max_price,
            limit=limit,
        )

    def compare(self, submission: Submission) -> Comparison:
        from nexus.launch.core.comparing import Comparison

        return self.http.post("/v1/runs/compare", Comparison, submission)

    def quota(self) -> QuotaView:
        from nexus.launch.core.queue.views import QuotaView

        return self.http.get("/v1/quota", QuotaView)

    def set_quota(self, wanted: QuotaRequest) -> Quota:
        return self.http.call("PUT", "/v1/quota", Quota, body=wanted)

    def waiting(self, run: str) -> Waiting:
        from nexus.launch.core.queue.views import Waiting

        return self.http.get(f"/v1/runs/{run}/waiting", Waiting)

    def costs(self, *, by: str = "run", since: float = 0.0, until: float | None = None, limit: int = 100) -> CostReport:
        from nexus.launch.core.costing import CostReport

        return self.http.get("/v1/costs", CostReport, by=by, since=since, until=until, limit=limit)
