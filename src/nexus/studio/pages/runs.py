"""Runs: every run of the project, newest first, with the filter in the address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from nexus.infra.web.auth import Viewer
from nexus.launch.model import Node, Run, RunState, Task
from nexus.studio.page import Page, Site, is_fragment

PER_PAGE = 50
SHOWN: tuple[tuple[str, tuple[RunState, ...]], ...] = (
    ("all", ()),
    ("active", (RunState.QUEUED, RunState.STARTING, RunState.RUNNING, RunState.STOPPING)),
    ("succeeded", (RunState.SUCCEEDED,)),
    ("failed", (RunState.FAILED,)),
    ("stopped", (RunState.STOPPED,)),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One run in the list."""

    run: Run
    where: str
    took: float | None


def address(state: str, text: str, before: str = "") -> str:
    """The page with this filter."""
    given = {"state": state if state != "all" else "", "text": text, "before": before}
    query = urlencode({name: value for name, value in given.items() if value})
    return f"/runs?{query}" if query else "/runs"


def rows_of(runs: list[Run], tasks: list[Task], nodes: list[Node], now: float) -> list[Row]:
    """Runs with where they are and how long they took, or have taken so far."""
    names = {node.id: node.name for node in nodes}
    places: dict[str, list[str]] = {}
    for task in tasks:
        place = names.get(task.node, task.node)
        if place not in places.setdefault(task.run, []):
            places[task.run].append(place)
    return [Row(run, _places(places.get(run.id, [])), took(run, now)) for run in runs]


def took(run: Run, now: float) -> float | None:
    """Seconds from start to end, or to now; None before the start."""
    return None if run.started is None else (run.ended or now) - run.started


def _places(names: list[str]) -> str:
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "") if names else "—"


def _routes(router: APIRouter, site: Site) -> None:
    launch, render, clock = site.services.launch, site.render, site.services.clock

    @router.get("/")
    async def home(_: Viewer) -> RedirectResponse:
        return RedirectResponse("/runs", 303)

    @router.get("/runs")
    async def runs(
        request: Request,
        who: Viewer,
        state: str = "all",
        text: Annotated[str, Query(max_length=100)] = "",
        before: str = "",
    ) -> HTMLResponse:
        states = dict(SHOWN).get(state, ())
        found = await launch.runs(who, states=states, text=text.strip(), limit=PER_PAGE + 1, before=before)
        page, rest = found[:PER_PAGE], found[PER_PAGE:]
        tasks = await launch.tasks_of(who, [run.id for run in page])
        values = {
            "rows": rows_of(page, tasks, await launch.nodes(who), clock.now()),
            "state": state,
            "text": text,
            "shown": SHOWN,
            "address": address,
            "here_url": address(state, text, before),
            "part": is_fragment(request),
            "more": address(state, text, page[-1].id) if rest else "",
        }
        if values["part"]:
            return HTMLResponse(render.fragment("_runs.html", **values))
        return HTMLResponse(render.page(request, "runs.html", "runs", **values))


page = Page("Runs", "/runs", "runs", _routes)
