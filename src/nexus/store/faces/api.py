"""Routes of the Job Store."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from nexus.infra.web.auth import Member, Viewer
from nexus.infra.web.bodies import json_answer, read_json
from nexus.store.model import Order
from nexus.store.service import Store


def router(store: Store) -> APIRouter:
    """`/v1/templates`."""
    api = APIRouter(prefix="/v1/templates", tags=["store"])

    @api.get("", summary="The templates of the Job Store")
    async def listed(who: Viewer) -> Response:
        return json_answer(store.list(who))

    @api.get("/{name}", summary="One template, its parameters and its job file")
    async def show(who: Viewer, name: str) -> Response:
        return json_answer(store.show(who, name))

    @api.post("/{name}/preview", summary="What a launch would do, and where it would run")
    async def preview(who: Viewer, name: str, request: Request) -> Response:
        return json_answer(await store.preview(who, name, (await read_json(request, Order)).values))

    @api.post("/{name}/launch", status_code=201, summary="Launch a template")
    async def launch(who: Member, name: str, request: Request) -> Response:
        return json_answer(await store.launch(who, name, (await read_json(request, Order)).values), 201)

    return api
