"""One run: state, live charts, log, tasks, artifacts, what happened, what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, StreamingResponse

from nexus.infra.web.auth import Member, Viewer
from nexus.kernel.errors import ForbiddenError
from nexus.kernel.events import Event
from nexus.kernel.identity import Principal, Role
from nexus.launch.model import RUN_LIFE
from nexus.studio.page import Page, Site
from nexus.studio.pages.runs import rows_of
from nexus.studio.stream import Cursors, line_body, run_events


@dataclass(frozen=True, slots=True)
class Happening:
    """An event in words."""

    at: float
    words: str
    detail: str
    tone: str


def in_words(event: Event, nodes: Mapping[str, str]) -> Happening:
    """`task.running` as `Task running`, with what a reader wants to know: which, where, why; ids have their pages."""
    noun, _, verb = event.kind.partition(".")
    data = event.data
    which = f"{data['role']}-{data['index']}" if "role" in data and "index" in data else str(data.get("role", ""))
    where = nodes.get(str(data.get("node", "")), "")
    code, attempt = data.get("exit_code"), data.get("attempt")
    details = [
        f"{which} on {where}" if which and where else which or where,
        f"attempt {attempt + 1}" if isinstance(attempt, int) and attempt else "",
        str(data.get("reason", "")),
        f"exit code {code}" if code else "",
    ]
    failed = any(word in event.kind for word in ("failed", "lost", "refused"))
    tone = "bad" if failed else "good" if "succeeded" in event.kind else ""
    words = f"{noun.capitalize()} {verb.replace('_', ' ')}"
    return Happening(event.at, words, " · ".join(part for part in details if part), tone)


def may_change(who: Principal) -> bool:
    """Whether buttons that change things are shown."""
    try:
        who.need(Role.MEMBER)
    except ForbiddenError:
        return False
    return True


async def _values(site: Site, who: Principal, run_id: str) -> dict[str, Any]:
    launch, track, clock = site.services.launch, site.services.track, site.services.clock
    run = await launch.run(who, run_id)
    tasks = await launch.tasks_of(who, [run.id])
    nodes = await launch.nodes(who)
    row = rows_of([run], tasks, nodes, clock.now())[0]
    names = {node.id: node.name for node in nodes}
    logged = await track.logged(who, run.id)
    return {
        "run": run,
        "where": row.where,
        "took": row.took,
        "ended": RUN_LIFE.is_final(run.state),
        "may_change": may_change(who),
        "rounds": run.kind == "federate",
        "params": list(logged.params.items())[:12],
        "logged": logged,
        "tasks": tasks[::-1],
        "names": names,
        "artifacts": list({kept.name: kept for kept in await track.artifacts(who, run.id)}.values()),  # newest of each
        "events": [in_words(event, names) for event in await launch.events(who, run.id)],
    }


def _routes(router: APIRouter, site: Site) -> None:
    _shown(router, site)
    _streams(router, site)
    _actions(router, site)


def _shown(router: APIRouter, site: Site) -> None:
    render = site.render

    @router.get("/runs/{run_id}")
    async def show(request: Request, who: Viewer, run_id: str) -> HTMLResponse:
        values = await _values(site, who, run_id)
        return HTMLResponse(render.page(request, "run.html", "runs", **values))

    @router.get("/runs/{run_id}/head")
    async def head(who: Viewer, run_id: str) -> HTMLResponse:
        return HTMLResponse(render.fragment("_run_head.html", **await _values(site, who, run_id)))

    @router.get("/runs/{run_id}/side")
    async def side(who: Viewer, run_id: str) -> HTMLResponse:
        return HTMLResponse(render.fragment("_run_side.html", **await _values(site, who, run_id)))


def _streams(router: APIRouter, site: Site) -> None:
    launch, track = site.services.launch, site.services.track

    @router.get("/runs/{run_id}/stream")
    async def stream(who: Viewer, run_id: str, last_event_id: Annotated[str, Header()] = "") -> StreamingResponse:
        run = await launch.run(who, run_id)
        events = run_events(site.services, who, run.id, Cursors.read(last_event_id))
        return StreamingResponse(events, media_type="text/event-stream", headers={"cache-control": "no-cache"})

    @router.get("/runs/{run_id}/log/search")
    async def search(
        who: Viewer, run_id: str, text: Annotated[str, Query(min_length=1, max_length=200)]
    ) -> JSONResponse:
        run = await launch.run(who, run_id)
        return JSONResponse([line_body(line) for line in await track.search(who, run.id, text)])

    @router.get("/runs/{run_id}/log.txt")
    async def log(who: Viewer, run_id: str) -> StreamingResponse:
        run = await launch.run(who, run_id)
        return StreamingResponse(track.text(who, run.id), media_type="text/plain", headers=_file(f"{run.name}.log"))

    @router.get("/runs/{run_id}/artifacts/{name:path}")
    async def artifact(who: Viewer, run_id: str, name: str) -> StreamingResponse:
        run = await launch.run(who, run_id)
        kept, chunks = await track.download(who, run.id, name)
        filename = kept.name.rsplit("/", 1)[-1] + (".zip" if kept.packed else "")
        headers = _file(filename) | {"content-length": str(kept.size_b)}
        return StreamingResponse(chunks, media_type="application/octet-stream", headers=headers)


def _file(name: str) -> dict[str, str]:
    return {"content-disposition": f"attachment; filename*=UTF-8''{quote(name)}"}


def _actions(router: APIRouter, site: Site) -> None:
    launch = site.services.launch

    @router.post("/runs/{run_id}/stop")
    async def stop(who: Member, run_id: str) -> RedirectResponse:
        run = await launch.stop(who, run_id)
        return RedirectResponse(f"/runs/{run.id}", 303)

    @router.post("/runs/{run_id}/again")
    async def again(who: Member, run_id: str) -> RedirectResponse:
        run = await launch.again(who, run_id)
        return RedirectResponse(f"/runs/{run.id}", 303)


page = Page("Run", "/runs", "runs", _routes, menu=False)
