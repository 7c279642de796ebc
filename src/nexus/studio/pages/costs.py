"""Costs: what was spent, by run, person, machine or day, and how long machines were paid for and held by nobody."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from nexus.infra.web.auth import Viewer
from nexus.kernel.errors import MissingError
from nexus.launch.core.costing import By
from nexus.studio.page import Page, Site

LINES = 100
WINDOWS = {"24h": 86_400.0, "7d": 7 * 86_400.0, "30d": 30 * 86_400.0, "ever": None}


def address(by: str, since: str) -> str:
    """The page with this choice."""
    return f"/costs?{urlencode({'by': by, 'since': since})}"


def _routes(router: APIRouter, site: Site) -> None:
    @router.get("/costs")
    async def shown(
        request: Request, who: Viewer, by: By = By.RUN, since: Annotated[str, Query(pattern="24h|7d|30d|ever")] = "30d"
    ) -> HTMLResponse:
        costs, length = site.services.costs, WINDOWS[since]
        if costs is None:
            raise MissingError("this server keeps no bills", hint="nexus up starts one that does.")
        begin = 0.0 if length is None else site.services.clock.now() - length
        report = await costs.report(who, by, since=begin, limit=LINES)
        kinds = [one for one in By if one is not By.PROJECT or who.owner]
        values = {"report": report, "by": by, "since": since, "kinds": kinds, "windows": list(WINDOWS)}
        most = max([row.cost for row in report.rows] + [one.cost for one in report.idle], default=0.0)
        return HTMLResponse(site.render.page(request, "costs.html", "costs", most=most, address=address, **values))


page = Page("Costs", "/costs", "costs", _routes)
