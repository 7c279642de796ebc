"""Models: the registry, where each version came from, and the way to an endpoint."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from nexus.deploy.core.jobsection import DeploySection, deployment
from nexus.deploy.model import Deployment
from nexus.infra.web.auth import Member, Viewer
from nexus.kernel.errors import MissingError
from nexus.kernel.ids import to_name
from nexus.launch.core.compile import compile_job
from nexus.launch.core.spec import JobSpec
from nexus.studio.page import Page, Site
from nexus.studio.pages.run import may_change


def wanted_of(endpoint: str, model: str, engine: str, serving: set[str]) -> Deployment:
    """A new revision of an endpoint that serves, or a new endpoint for a model that says which engine serves it."""
    if endpoint in serving or not engine:
        return Deployment(name=endpoint, model=model)
    section = DeploySection.model_validate({"endpoint": endpoint, "engine": engine, "model": model})
    spec = JobSpec(name=endpoint, kind="deploy", workspace=None, sections={"deploy": section})
    return deployment(spec, compile_job(spec))


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
        serving = {view.name for view in await deploy.list(who.project)}
        engine = next((one.engine for one in await models.versions(who, name) if one.version == version), "")
        wanted = wanted_of(to_name(endpoint), f"model://{name}@{version}", engine, serving)
        view = await deploy.deploy(wanted, project=who.project, user=who.subject)
        return RedirectResponse(f"/endpoints/{view.name}", 303)


page = Page("Models", "/models", "models", _routes)
