"""Machines: they join, are drained, and are removed."""

from __future__ import annotations

from dataclasses import replace

from nexus.kernel.errors import ConflictError, NotFoundError
from nexus.kernel.identity import Principal, PrincipalKind, Role
from nexus.kernel.ids import to_name
from nexus.kernel.records import Drop
from nexus.launch.core.events import node_event, node_moved
from nexus.launch.model import NODES, TASK_LIFE, TASKS, Node, NodeState, Task
from nexus.launch.protocol import NodeInfo
from nexus.launch.service.channel import described
from nexus.launch.service.context import EVERYTHING, Context


def _seen(task: Task, project: str) -> Task:
    """What a project may know of a task: of another's only what it takes, and where."""
    if task.project == project:
        return task
    blank = Task(id=task.id, project="", created=task.created, run="", role="", index=0, attempt=0, node="", epoch=0)
    return replace(blank, node=task.node, state=task.state, cpu=task.cpu, memory_b=task.memory_b, gpus=task.gpus)


class Nodes:
    """Use cases around nodes."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def join(self, info: NodeInfo, project: str) -> Node:
        async def step() -> Node:
            context = self._context
            name, replaced = await self._free_name(project, to_name(info.name))
            now = context.clock.now()
            blank = Node(id=context.new_id("node"), project=project, created=now, name=name, seen=now)
            node = described(blank, info)
            joined = node_event(node, "joined", now, info.name)
            for old in replaced:  # gone, so it holds nothing
                await context.records.apply(Drop(NODES, old), events=[node_event(old, "removed", now, info.name)])
            context.presence.heard(
                node.id, context.clock.monotonic()
            )  # first: the scheduler looks as soon as it is stored
            await context.records.apply((NODES, node), events=[joined])
            return replace(node, version=1)

        return await self._context.retry(step)

    async def _free_name(self, project: str, name: str) -> tuple[str, list[Node]]:
        """`name`, or with the first number that nobody has; and the node that had it, if that is gone.

        Asked name by name: ten thousand machines that join must not each read all the others.
        """
        number, free = 1, name
        while True:
            found = await self._context.records.find(NODES, {"project": project, "name": free}, limit=1)
            if not found or found[0].state is NodeState.GONE:
                return free, found
            number += 1
            free = f"{name[:58]}-{number}"

    async def nodes(self, principal: Principal) -> list[Node]:
        principal.need(Role.VIEWER)
        found = await self._context.nodes_for(principal.project)
        return sorted(found, key=lambda node: (node.name, node.id))

    async def node(self, principal: Principal, reference: str) -> Node:
        """By id or name, of the caller's project: what others share is theirs to change."""
        for node in await self.nodes(principal):
            if reference in {node.id, node.name} and node.project == principal.project:
                return node
        raise NotFoundError(f"no such node: {reference}", hint="`nexus nodes` lists them.")

    async def held(self, principal: Principal) -> list[Task]:
        """The live tasks on the nodes that the caller's project may use. Those of others say only what they hold."""
        nodes = {node.id for node in await self.nodes(principal)}
        live = {"state": [str(state) for state in TASK_LIFE.live]}
        found = await self._context.records.find(TASKS, live, limit=EVERYTHING)
        return [_seen(task, principal.project) for task in found if task.node in nodes]

    async def share(self, principal: Principal, reference: str, *, shared: bool) -> Node:
        principal.need_person(Role.ADMIN)

        async def step() -> Node:
            node = await self.node(principal, reference)
            if node.shared == shared:
                return node
            changed = replace(node, shared=shared)
            said = node_event(node, "shared" if shared else "private", self._context.clock.now(), principal.subject)
            await self._context.commit((NODES, changed), events=[said])
            return replace(changed, version=node.version + 1)

        return await self._context.retry(step)

    async def drain(self, principal: Principal, reference: str, *, drain: bool) -> Node:
        principal.need(Role.MEMBER)

        async def step() -> Node:
            node = await self.node(principal, reference)
            if node.drain == drain:
                return node
            present = node.state in {NodeState.ONLINE, NodeState.DRAINING}
            wanted = NodeState.DRAINING if drain else NodeState.ONLINE
            changed = replace(node, drain=drain, state=wanted if present else node.state)
            moved = node_moved(changed, self._context.clock.now(), principal.subject)
            await self._context.commit((NODES, changed), events=[moved])
            return replace(changed, version=node.version + 1)

        return await self._context.retry(step)

    async def remove(self, principal: Principal, reference: str) -> Node:
        principal.need(Role.MEMBER)
        if principal.kind is PrincipalKind.RUN:
            principal.need(Role.ADMIN)
        node = await self.node(principal, reference)
        live = {"node": node.id, "state": [str(state) for state in TASK_LIFE.live]}
        busy = await self._context.records.find(TASKS, live, limit=EVERYTHING)
        if busy:
            raise ConflictError(
                f"{node.name} still has {len(busy)} tasks",
                hint=f"Let them end (nexus nodes drain {node.name}), or stop their runs.",
                tasks=[task.id for task in busy],
            )
        removed = node_event(node, "removed", self._context.clock.now(), principal.subject)
        await self._context.records.apply(Drop(NODES, node), events=[removed])
        return node
