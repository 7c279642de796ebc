"""Nodes: the machines, how full they are, what they cost, what runs there."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from nexus.infra.web.auth import Viewer
from nexus.kernel.identity import Principal
from nexus.launch.model import Node, NodeState, Run, Task
from nexus.studio.page import Page, Site, is_fragment


@dataclass(frozen=True, slots=True)
class Machine:
    """A node with what is held of it."""

    node: Node
    cpu: float
    memory_b: int
    gpus: int
    tasks: tuple[tuple[Task, Run], ...]
    others: int  # tasks of other projects


def machines_of(nodes: list[Node], tasks: list[Task], runs: list[Run]) -> list[Machine]:
    """Nodes with their live tasks, those online first, then by name."""
    by_id = {run.id: run for run in runs}
    there: defaultdict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        there[task.node].append(task)
    made = []
    for node in nodes:
        here = there[node.id]
        gpus = sum(len(task.gpus) for task in here)
        pairs = tuple((task, by_id[task.run]) for task in here if task.run in by_id)
        others = sum(not task.run for task in here)
        made.append(Machine(node, sum(t.cpu for t in here), sum(t.memory_b for t in here), gpus, pairs, others))
    return sorted(made, key=lambda machine: (machine.node.state is not NodeState.ONLINE, machine.node.name))


async def _machines(site: Site, who: Principal) -> list[Machine]:
    launch = site.services.launch
    nodes = [node for node in await launch.nodes(who) if node.state is not NodeState.GONE]
    runs = await launch.runs(who, states=("starting", "running", "stopping"), limit=1000)
    return machines_of(nodes, await launch.held(who), runs)


def _routes(router: APIRouter, site: Site) -> None:
    @router.get("/nodes")
    async def nodes(request: Request, who: Viewer) -> HTMLResponse:
        machines = await _machines(site, who)
        coming = await site.services.launch.coming(who)
        if is_fragment(request):
            return HTMLResponse(site.render.fragment("_nodes.html", machines=machines, coming=coming))
        return HTMLResponse(site.render.page(request, "nodes.html", "nodes", machines=machines, coming=coming))


page = Page("Nodes", "/nodes", "nodes", _routes)
