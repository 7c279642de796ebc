"""Routes of Deploy: endpoints, and OpenAI's API on the server's own origin."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from nexus.deploy.faces.relay import relay
from nexus.deploy.model import Deployment, EndpointView
from nexus.deploy.service import Deploy
from nexus.infra.web.auth import Member, Viewer
from nexus.infra.web.bodies import json_answer, read_json


def router(deploy: Deploy) -> APIRouter:
    """`/v1/endpoints`, and `/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`, passed on to the gateway."""
    api = APIRouter(prefix="/v1", tags=["deploy"])
    _add_endpoints(api, deploy)
    _add_changes(api, deploy)
    _add_openai(api, deploy)
    return api


def _add_endpoints(api: APIRouter, deploy: Deploy) -> None:
    @api.get("/endpoints", summary="Endpoints, oldest first", response_model=list[EndpointView])
    async def endpoints(principal: Viewer) -> Response:
        return json_answer(await deploy.list(principal.project))

    @api.get("/endpoints/{name}", summary="One endpoint with its replicas", response_model=EndpointView)
    async def endpoint(principal: Viewer, name: str) -> Response:
        return json_answer(await deploy.show(principal.project, name))


def _add_changes(api: APIRouter, deploy: Deploy) -> None:
    @api.post("/endpoints", status_code=201, summary="Create or roll over", response_model=EndpointView)
    async def create(principal: Member, request: Request) -> Response:
        deployment = await read_json(request, Deployment)
        made = await deploy.deploy(deployment, project=principal.project, user=principal.subject)
        return json_answer(made, status=201)

    @api.post("/endpoints/{name}/rollback", summary="Serve an earlier revision again", response_model=EndpointView)
    async def rollback(principal: Member, name: str, to: int = 0) -> Response:
        return json_answer(await deploy.rollback(principal.project, name, to, user=principal.subject))

    @api.delete("/endpoints/{name}", status_code=204, summary="Stop its replicas and forget it")
    async def delete(principal: Member, name: str) -> Response:
        await deploy.delete(principal.project, name, user=principal.subject)
        return Response(status_code=204)


def _add_openai(api: APIRouter, deploy: Deploy) -> None:
    @api.post("/chat/completions", summary="OpenAI's chat, by the endpoint that `model` names")
    async def chat(_: Viewer, request: Request) -> StreamingResponse:
        return await relay(request, deploy.traffic.url)

    @api.post("/completions", summary="OpenAI's completions, by the endpoint that `model` names")
    async def completions(_: Viewer, request: Request) -> StreamingResponse:
        return await relay(request, deploy.traffic.url)

    @api.post("/embeddings", summary="OpenAI's embeddings, by the endpoint that `model` names")
    async def embeddings(_: Viewer, request: Request) -> StreamingResponse:
        return await relay(request, deploy.traffic.url)
