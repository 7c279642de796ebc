"""Routes of fleets: machines that providers start and end for the project."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from nexus.infra.web.auth import Admin, Viewer
from nexus.infra.web.bodies import json_answer
from nexus.launch.core.machines import FleetView
from nexus.launch.faces.views import FleetRequest
from nexus.launch.model import Fleet
from nexus.launch.service import Launch

Fresh = Annotated[bool, Query(description="Ask its provider now; needs the role member")]


def router(launch: Launch) -> APIRouter:
    """`/v1/fleets`."""
    api = APIRouter(prefix="/v1/fleets", tags=["launch"])

    @api.get("", summary="All fleets, their machines and what they offer", response_model=list[FleetView])
    async def fleets(principal: Viewer) -> Response:
        return json_answer(await launch.fleets.fleets(principal))

    @api.get("/{fleet}", summary="One fleet, by name or id", response_model=FleetView)
    async def one(principal: Viewer, fleet: str, fresh: Fresh = False) -> Response:
        return json_answer(await launch.fleets.fleet(principal, fleet, fresh=fresh))

    @api.post("", status_code=201, summary="Set a fleet up, or change its settings", response_model=Fleet)
    async def add(principal: Admin, body: FleetRequest) -> Response:
        made = await launch.fleets.add(
            principal, body.name, body.provider, body.settings, idle_s=body.idle_s, most=body.most
        )
        return json_answer(made, status=201)

    @api.post("/{fleet}/pause", summary="Start no more machines; with on=false, again", response_model=Fleet)
    async def pause(principal: Admin, fleet: str, on: bool = True) -> Response:
        return json_answer(await launch.fleets.pause(principal, fleet, paused=on))

    @api.delete("/{fleet}", summary="End its machines when their tasks have, then forget it", response_model=Fleet)
    async def remove(principal: Admin, fleet: str) -> Response:
        return json_answer(await launch.fleets.remove(principal, fleet))

    return api
