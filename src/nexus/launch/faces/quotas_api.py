"""Routes for quotas, and for why a run waits."""

from __future__ import annotations

from fastapi import APIRouter, Response

from nexus.infra.web.auth import Viewer
from nexus.infra.web.bodies import json_answer
from nexus.launch.core.queue.views import QuotaRequest, QuotaView, Waiting
from nexus.launch.model import Quota
from nexus.launch.service import Launch


def add_quotas(api: APIRouter, launch: Launch) -> None:
    """`/quota`, `/runs/{run}/waiting`."""

    @api.get("/quota", summary="What the project may hold, holds, and has spent", response_model=QuotaView)
    async def show(principal: Viewer) -> Response:
        return json_answer(await launch.quotas.show(principal))

    @api.put("/quota", summary="Set the project's limits (owners only)", response_model=Quota)
    async def change(principal: Viewer, wanted: QuotaRequest) -> Response:
        return json_answer(await launch.quotas.change(principal, wanted))

    @api.get("/runs/{run}/waiting", summary="Its place in the queue, and what it waits for", response_model=Waiting)
    async def waiting(principal: Viewer, run: str) -> Response:
        return json_answer(await launch.waiting(principal, run))
