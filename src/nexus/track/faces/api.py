"""Routes of tracking for people and programs; `faces.ingest` has the agents', `faces.blobs` the bytes'."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from nexus.infra.web.auth import Member, Viewer
from nexus.infra.web.bodies import json_answer, read_json
from nexus.infra.web.sse import ServerEvent, event_stream
from nexus.track.faces.blobs import add_blob_routes, attachment, range_start
from nexus.track.faces.bodies import (
    AliasTarget,
    CurveBody,
    NewVersion,
    SummaryBody,
    curve_bodies,
    news_body,
    summary_body,
)
from nexus.track.faces.ingest import add_ingest_routes
from nexus.track.model import Artifact, LogPage, Model, ModelVersion, TaskLine
from nexus.track.ports import Leases
from nexus.track.service import Track
from nexus.track.service.logs import PAGE_LINES
from nexus.track.service.metrics import CHART_POINTS, News

LastEvent = Annotated[str, Header(alias="last-event-id", include_in_schema=False)]


def router(track: Track, leases: Leases) -> APIRouter:
    """Everything under `/v1` that has to do with logs, metrics, artifacts, models and blobs."""
    api = APIRouter(prefix="/v1", tags=["track"])
    add_ingest_routes(api, track, leases)
    add_blob_routes(api, track, leases)
    _add_logs(api, track)
    _add_metrics(api, track)
    _add_artifacts(api, track)
    _add_models(api, track)
    return api


def _add_logs(api: APIRouter, track: Track) -> None:
    @api.get("/runs/{run}/logs", response_model=LogPage, summary="Lines of a run; follow=1 streams them as events")
    async def logs(
        principal: Viewer,
        run: str,
        cursor: str = "",
        tail: Annotated[int | None, Query(ge=0)] = None,
        task: str = "",
        since_ms: int | None = None,
        limit: Annotated[int, Query(ge=1)] = PAGE_LINES,
        follow: bool = False,
        last_event_id: LastEvent = "",
    ) -> Response:
        """A page has `lines`, and the `cursor` that continues it.

        Events are `lines` (a list of them) and at last `end`; their ids are cursors, so a browser resumes by itself.
        """
        if follow:
            pages = track.logs.follow(principal, run, cursor=last_event_id or cursor, tail=tail, task=task)
            return await event_stream(_log_events(pages))
        return json_answer(
            await track.logs.page(principal, run, cursor=cursor, tail=tail, task=task, since_ms=since_ms, limit=limit)
        )

    @api.get("/runs/{run}/logs/search", response_model=list[TaskLine], summary="Lines that hold a text")
    async def search(
        principal: Viewer, run: str, text: str, task: str = "", limit: Annotated[int, Query(ge=1, le=5000)] = 200
    ) -> Response:
        return json_answer(await track.logs.search(principal, run, text, task=task, limit=limit))


async def _log_events(pages: AsyncIterator[LogPage]) -> AsyncIterator[ServerEvent]:
    async for page in pages:
        if page.lines:
            yield ServerEvent(page.lines, "lines", page.cursor)
        elif not page.end:
            yield ServerEvent()
        if page.end:
            yield ServerEvent({}, "end", page.cursor)


def _add_metrics(api: APIRouter, track: Track) -> None:
    @api.get("/runs/{run}/metrics", response_model=SummaryBody, summary="What a run has logged; follow=1 streams it")
    async def summary(
        principal: Viewer, run: str, follow: bool = False, cursor: str | None = None, last_event_id: LastEvent = ""
    ) -> Response:
        """Keys, last values and parameters. Events are `points` (what is new since `cursor`, or from now on), `end`."""
        if follow:
            news = track.metrics.follow(principal, run, last_event_id or cursor)
            return await event_stream(_metric_events(news))
        return json_answer(summary_body(await track.metrics.summary(principal, run)))

    @api.get("/runs/{run}/metrics/{key:path}", response_model=list[CurveBody], summary="One key's curves, thinned")
    async def chart(
        principal: Viewer,
        run: str,
        key: str,
        points: Annotated[int, Query(ge=2, le=20_000)] = CHART_POINTS,
        after: Annotated[int | None, Query(ge=0)] = None,
    ) -> Response:
        """One curve a task. With `after`, every point from that number on instead, and `after` to go on with."""
        return json_answer(curve_bodies(await track.metrics.chart(principal, run, key, points=points, after=after)))


async def _metric_events(news: AsyncIterator[News]) -> AsyncIterator[ServerEvent]:
    async for one in news:
        if one.curves:
            yield ServerEvent(news_body(one), "points", one.cursor)
        else:
            yield ServerEvent({}, "end", one.cursor) if one.end else ServerEvent()


def _add_artifacts(api: APIRouter, track: Track) -> None:
    @api.get("/runs/{run}/artifacts", response_model=list[Artifact], summary="What a run left behind")
    async def artifacts(principal: Viewer, run: str) -> Response:
        return json_answer(await track.artifacts.of_run(principal, run))

    @api.get("/artifacts/{artifact_id}", response_model=Artifact, summary="One artifact")
    async def artifact(principal: Viewer, artifact_id: str) -> Response:
        return json_answer(await track.artifacts.get(principal, artifact_id))

    @api.get("/artifacts/{artifact_id}/content", response_class=StreamingResponse, summary="An artifact's bytes")
    async def content(principal: Viewer, artifact_id: str, request: Request) -> Response:
        start = range_start(request)
        found, size, chunks = await track.artifacts.content(principal, artifact_id, start)
        name = found.name.rpartition("/")[2] + (".zip" if found.packed else "")
        return attachment(chunks, size, start, name)


def _add_models(api: APIRouter, track: Track) -> None:
    @api.get("/models", response_model=list[Model], summary="The project's models")
    async def models(principal: Viewer) -> Response:
        return json_answer(await track.models.all(principal))

    @api.get("/models/{name}", response_model=Model, summary="One model: its newest version and aliases")
    async def model(principal: Viewer, name: str) -> Response:
        return json_answer(await track.models.get(principal, name))

    @api.get("/models/{name}/versions", response_model=list[ModelVersion], summary="A model's versions, newest first")
    async def versions(principal: Viewer, name: str) -> Response:
        return json_answer(await track.models.versions(principal, name))

    @api.get("/models/{name}/versions/{version}", response_model=ModelVersion, summary="By number, latest or alias")
    async def version(principal: Viewer, name: str, version: str) -> Response:
        return json_answer(await track.models.version(principal, name, version))

    @api.post("/models/{name}/versions", response_model=ModelVersion, status_code=201, summary="Register a version")
    async def register(principal: Member, name: str, request: Request) -> Response:
        """The body is a `NewVersion`: the digest of an uploaded blob, and where it came from."""
        body = await read_json(request, NewVersion)
        made = await track.models.register(
            principal,
            name,
            body.digest,
            packed=body.packed,
            run=body.run,
            params=body.params,
            metrics=body.metrics,
            meta=body.meta,
        )
        return json_answer(made, 201)

    @api.put("/models/{name}/aliases/{alias}", response_model=Model, summary="Point an alias at a version")
    async def alias(principal: Member, name: str, alias: str, request: Request) -> Response:
        target = await read_json(request, AliasTarget)
        return json_answer(await track.models.set_alias(principal, name, alias, target.version))

    @api.delete("/models/{name}/aliases/{alias}", response_model=Model, summary="Forget an alias")
    async def forget(principal: Member, name: str, alias: str) -> Response:
        return json_answer(await track.models.drop_alias(principal, name, alias))
