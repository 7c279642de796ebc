"""Routes for bills."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from nexus.infra.web.auth import Viewer
from nexus.infra.web.bodies import json_answer
from nexus.launch.core.costing import By, CostReport
from nexus.launch.service.costs import Costs

Moment = Annotated[float, Query(ge=0, description="Seconds since 1970")]


def router(costs: Costs) -> APIRouter:
    """`/v1/costs`."""
    api = APIRouter(prefix="/v1", tags=["launch"])

    @api.get("/costs", summary="What was spent, by run, user, project, node or day", response_model=CostReport)
    async def report(
        principal: Viewer,
        by: By = By.RUN,
        since: Moment = 0.0,
        until: Moment | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        return json_answer(await costs.report(principal, by, since=since, until=until, limit=limit))

    return api
