"""Federated rounds: how well, how long, how many bytes, and who took part."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from nexus.infra.web.auth import Viewer
from nexus.launch.model import RUN_LIFE
from nexus.studio.heat import heat_map
from nexus.studio.page import Page, Site, is_fragment
from nexus.studio.pages.runs import rows_of
from nexus.studio.silos import silos


def _routes(router: APIRouter, site: Site) -> None:
    launch, federate, render = site.services.launch, site.services.federate, site.render

    @router.get("/rounds")
    async def listed(request: Request, who: Viewer) -> HTMLResponse:
        runs = await launch.runs(who, kinds=("federate",), limit=100)
        rows = rows_of(runs, [], [], site.services.clock.now())
        return HTMLResponse(render.page(request, "rounds.html", "rounds", rows=rows))

    @router.get("/rounds/{run_id}")
    async def show(request: Request, who: Viewer, run_id: str) -> HTMLResponse:
        run = await launch.run(who, run_id)
        rounds = await federate.rounds(who, run.id, limit=10_000) if federate else []
        values = {
            "run": run,
            "ended": RUN_LIFE.is_final(run.state),
            "rounds": sorted(rounds, key=lambda one: -one.number),
            "names": sorted({name for one in rounds for name in one.metrics}),
            "notes": sorted({name for one in rounds for name in one.notes}),
            "heat": heat_map(rounds) if rounds else "",
            "silos": silos(rounds),
        }
        if is_fragment(request):
            return HTMLResponse(render.fragment("_rounds_of.html", **values))
        return HTMLResponse(render.page(request, "rounds_of.html", "rounds", **values))


page = Page("Federated", "/rounds", "rounds", _routes)
