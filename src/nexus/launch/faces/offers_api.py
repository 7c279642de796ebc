"""Routes for what could be rented or started."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import ValidationError

from nexus.infra.web.auth import Viewer
from nexus.infra.web.bodies import json_answer
from nexus.kernel.errors import UsageError
from nexus.launch.core.comparing import Comparison, OfferList, OfferQuery
from nexus.launch.core.roles import needs_of
from nexus.launch.core.spec import Resources
from nexus.launch.model import Needs, PriceNote, Submission
from nexus.launch.service.offers import Offers

Words = Annotated[list[str], Query()]


def router(offers: Offers) -> APIRouter:
    """`/v1/offers`, `/v1/prices`, `/v1/runs/compare`."""
    api = APIRouter(prefix="/v1", tags=["launch"])

    @api.get("/offers", summary="Machines that could be rented or started, cheapest first", response_model=OfferList)
    async def listed(
        principal: Viewer,
        gpu: Annotated[str, Query(description="As in a job file: H100, H100:8, any:1")] = "",
        cpu: str = "",
        memory: str = "",
        region: Words = [],  # noqa: B006 (FastAPI copies it)
        provider: Words = [],  # noqa: B006
        spot: Literal["auto", "only", "never"] = "auto",
        max_price: Annotated[float | None, Query(ge=0)] = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 20,
    ) -> Response:
        needs = asked(gpu=gpu, cpu=cpu, memory=memory, region=region, spot=spot)
        query = OfferQuery(needs=needs, providers=tuple(provider), max_price=max_price, limit=limit)
        return json_answer(await offers.offers(principal, query))

    @api.post("/prices/refresh", summary="Fetch today's list prices; for the server's owners", response_model=PriceNote)
    async def refresh(principal: Viewer) -> Response:
        return json_answer(await offers.refresh(principal))

    @api.post("/runs/compare", summary="Where a run would go, and where else, by price", response_model=Comparison)
    async def compare(principal: Viewer, submission: Submission) -> Response:
        return json_answer(await offers.compare(principal, submission))

    return api


def asked(**words: Any) -> Needs:
    """Needs in the words of a job file's `resources`. Raises UsageError."""
    given = {name: value for name, value in words.items() if value}
    try:
        return needs_of(Resources.model_validate(given))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        hint = "Write it as in a job file: --gpu A100:2 --cpu 8.."
        raise UsageError(f"{where}: {first['msg']}", hint=hint) from error
