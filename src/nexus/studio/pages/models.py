"""Models: the registry, where each version came from, and the way to an endpoint."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from nexus.deploy.model import Deployment
from nexus.infra.web.auth import Member, Viewer
from nexus.kernel.errors import MissingError
from nexus.kernel.ids import to_name
from nexus.studio.page import Page, Site
from nexus.studio.pages.run import may_change


def _routes(router: APIRouter, site: Site) -> None:
    models, deploy, render = site.services.models, site.services.deploy, site.render

    @router.get("/models")
    async def listed(request: Request, who: Viewer) -> HTMLResponse:
        return HTMLResponse(render.page(request, "models.html", "models", models=await models.models(who)))

    @router.get("/models/{name}")
    async def show(request: Request, who: Viewer, name: str) -> HTMLResponse:
        versions = await models.versions(who, name)
        keys = sorted({key for version in versions for key in version.metrics})[:6]
        endpoints = [view.name for view in await deploy.list(who.project)] if deploy else []
        values = {"name": name, "versions": versions, "keys": keys, "endpoints": endpoints}
        allowed = deploy is not None and may_change(who)
        return HTMLResponse(render.page(request, "model.html", "models", may_deploy=allowed, **values))

    @router.post("/models/{name}/deploy")
    async def to_endpoint(
        who: Member, name: str, version: Annotated[int, Form()], endpoint: Annotated[str, Form(max_length=63)]
    ) -> RedirectResponse:
        if deploy is None:
            raise MissingError("this server has no gateway", hint="Start it with one: nexus up")
        wanted = Deployment(name=to_name(endpoint), model=f"model://{name}@{version}")
        view = await deploy.deploy(wanted, project=who.project, user=who.subject)
        return RedirectResponse(f"/endpoints/{view.name}", 303)


page = Page("Models", "/models", "models", _routes)
