"""Federate's HTTP routes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from nexus.federate.model import Round
from nexus.federate.protocol import CertificateRequest
from nexus.federate.service import FederateService
from nexus.infra.web.auth import Caller
from nexus.infra.web.bodies import json_answer, read_json

BODY_MAX_B = 16_000_000


def router(service: FederateService) -> APIRouter:
    """The routes of federated rounds."""
    routes = APIRouter(tags=["federate"])

    @routes.post("/v1/runs/{run}/rounds", summary="Keep rounds of a run")
    async def post_rounds(run: str, request: Request, caller: Caller) -> Response:
        """For the run's own server task: a list of rounds. Those that are here already change nothing."""
        rounds = await read_json(request, list[Round], BODY_MAX_B)
        return json_answer({"kept": await service.post(caller, run, rounds)})

    @routes.get("/v1/runs/{run}/rounds", summary="The rounds of a federated run")
    async def list_rounds(
        run: str,
        caller: Caller,
        after: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    ) -> Response:
        """Cohort, how each client's turn ended, seconds, bytes and metrics, by round."""
        return json_answer(await service.rounds(caller, run, after=after, limit=limit))

    @routes.post("/v1/runs/{run}/certificates", summary="Certify the key of a federated task")
    async def certify(run: str, request: Request, caller: Caller) -> Response:
        """For the run's own tasks: a certificate of the run's authority that names the task by role and index."""
        asked = await read_json(request, CertificateRequest)
        return json_answer(await service.certify(caller, run, asked.public_key))

    return routes
