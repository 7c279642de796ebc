"""Routes of Launch for people and programs: runs, nodes, events."""

from __future__ import annotations

from collections import defaultdict
from typing import Annotated

from fastapi import APIRouter, Query, Response

from nexus.access.model import Purpose
from nexus.access.service import Access
from nexus.infra.web.auth import Admin, Member, Submitter, Viewer
from nexus.infra.web.bodies import json_answer
from nexus.kernel.identity import Principal
from nexus.launch.faces.quotas_api import add_quotas
from nexus.launch.faces.views import EventPage, NodeUse, RunPage, RunSummary, ScaleRequest, summary_of
from nexus.launch.model import Node, Placement, Run, RunState, Submission, Task, WhatIf
from nexus.launch.service import Launch

Limit = Annotated[int, Query(ge=1, le=1000)]
After = Annotated[int, Query(ge=0, lt=2**63, description="The last number that was seen")]
Wait = Annotated[float, Query(ge=0, le=30, description="Seconds to wait for a change")]


def router(launch: Launch, access: Access) -> APIRouter:
    """`/v1/runs`, `/v1/nodes`, `/v1/events`."""
    api = APIRouter(prefix="/v1", tags=["launch"])
    _add_runs(api, launch)
    _add_changes(api, launch)
    _add_nodes(api, launch, access)
    add_quotas(api, launch)

    @api.get("/events", summary="What happened in the project", response_model=EventPage)
    async def events(
        principal: Viewer, after: After = 0, subject: str | None = None, newest: bool = False, limit: Limit = 100
    ) -> Response:
        found = await launch.events(principal, after=after, subject=subject, limit=limit, newest=newest)
        last = max((event.seq for event in found), default=after)
        return json_answer(EventPage(events=tuple(found), last=last))

    return api


def _add_runs(api: APIRouter, launch: Launch) -> None:
    @api.get("/runs", summary="Runs, newest first", response_model=RunPage)
    async def runs(
        principal: Viewer,
        limit: Limit = 50,
        cursor: str = "",
        name: str | None = None,
        state: RunState | None = None,
        kind: str | None = None,
        user: str | None = None,
    ) -> Response:
        before = await launch.run(principal, cursor) if cursor else None
        where = {"name": name, "state": state and str(state), "kind": kind, "user": user}
        found = await launch.runs(principal, where, limit=limit + 1, before=before)
        shown = await launch.priced(found[:limit])
        places = await launch.places(shown)
        summaries = tuple(summary_of(run, places[run.id]) for run in shown)
        return json_answer(RunPage(runs=summaries, next=shown[-1].id if len(found) > limit else ""))

    @api.get("/runs/{run}", summary="One run, by id, beginning of an id, or name", response_model=Run)
    async def one(principal: Viewer, run: str, version: int | None = None, wait_s: Wait = 0) -> Response:
        if version is None:
            found = await launch.run(principal, run)
        else:
            found = await launch.watch(principal, run, version, wait_s)
        return json_answer((await launch.priced([found]))[0])

    @api.get("/runs/{run}/tasks", summary="Its tasks, of all attempts", response_model=list[Task])
    async def tasks(principal: Viewer, run: str) -> Response:
        return json_answer(await launch.tasks(principal, run))

    @api.get("/runs/{run}/whatif", summary="Changes that would help it to a place", response_model=list[WhatIf])
    async def whatif(principal: Viewer, run: str) -> Response:
        return json_answer(await launch.whatif(principal, run))

    @api.get("/runs/{run}/events", summary="What happened to it and its tasks", response_model=EventPage)
    async def events(principal: Viewer, run: str, after: After = 0, limit: Limit = 1000) -> Response:
        subject = (await launch.run(principal, run)).id
        found = await launch.events(principal, after=after, subject=subject, limit=limit)
        return json_answer(EventPage(events=tuple(found), last=found[-1].seq if found else after))


def _add_changes(api: APIRouter, launch: Launch) -> None:
    @api.post("/runs", status_code=201, summary="Submit a run", response_model=Run)
    async def submit(principal: Submitter, submission: Submission) -> Response:
        return json_answer(await launch.submit(principal, submission), status=201)

    @api.post("/runs/batch", status_code=201, summary="Submit many runs, or none", response_model=list[RunSummary])
    async def submit_many(principal: Submitter, submissions: list[Submission]) -> Response:
        taken = await launch.submit_many(principal, submissions)
        return json_answer([summary_of(run, ()) for run in taken], status=201)

    @api.post("/runs/plan", summary="Where it would go now, and why not elsewhere", response_model=Placement)
    async def plan(principal: Viewer, submission: Submission) -> Response:
        return json_answer(await launch.plan(principal, submission))

    @api.post("/runs/{run}/stop", summary="Ask it to stop", response_model=Run)
    async def stop(principal: Viewer, run: str) -> Response:
        return json_answer(await launch.stop(principal, run))

    @api.post("/runs/{run}/restart", status_code=201, summary="A new run of the same plan", response_model=Run)
    async def restart(principal: Member, run: str) -> Response:
        return json_answer(await launch.restart(principal, run), status=201)

    @api.post("/runs/{run}/scale", summary="How many tasks of a role should be", response_model=Run)
    async def scale(principal: Viewer, run: str, body: ScaleRequest) -> Response:
        return json_answer(await launch.scale(principal, run, body.role, body.count))


def _add_nodes(api: APIRouter, launch: Launch, access: Access) -> None:
    @api.get("/nodes", summary="All nodes, and what is held of them", response_model=list[NodeUse])
    async def nodes(principal: Viewer) -> Response:
        return json_answer(await _uses(launch, principal))

    @api.post("/nodes/{node}/drain", summary="No new tasks for it; with on=false, again", response_model=Node)
    async def drain(principal: Member, node: str, on: bool = True) -> Response:
        return json_answer(await launch.drain(principal, node, drain=on))

    @api.post("/nodes/{node}/share", summary="For runs of every project; on=false: its own", response_model=Node)
    async def share(principal: Admin, node: str, on: bool = True) -> Response:
        return json_answer(await launch.share(principal, node, shared=on))

    @api.delete("/nodes/{node}", summary="Forget it; its token stops working", response_model=Node)
    async def remove(principal: Member, node: str) -> Response:
        removed = await launch.remove(principal, node)
        await access.revoke_subject(Purpose.NODE, removed.id)
        return json_answer(removed)


async def _uses(launch: Launch, principal: Principal) -> list[NodeUse]:
    held: defaultdict[str, list[Task]] = defaultdict(list)
    for task in await launch.held(principal):
        held[task.node].append(task)
    return [_use(node, held[node.id]) for node in await launch.nodes(principal)]


def _use(node: Node, tasks: list[Task]) -> NodeUse:
    return NodeUse(
        node=node,
        tasks=len(tasks),
        cpu=sum(task.cpu for task in tasks),
        memory_b=sum(task.memory_b for task in tasks),
        gpus=sum(len(task.gpus) for task in tasks),
    )
