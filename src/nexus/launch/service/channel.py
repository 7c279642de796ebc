"""The server's side of the agents' protocol: what nodes observe goes in, what should be comes out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import structlog

from nexus.kernel.errors import FencedError, NexusError, NotFoundError, UsageError
from nexus.kernel.events import Event
from nexus.launch.core.events import node_moved, task_moved
from nexus.launch.model import NODES, TASK_LIFE, TASKS, Cause, Node, NodeState, Task, TaskState
from nexus.launch.ports import log_topic
from nexus.launch.protocol import PROTOCOL, Desired, NodeInfo, Report, TaskReport
from nexus.launch.service.context import Context, node_topic
from nexus.launch.service.inputs import Inputs
from nexus.launch.service.pictures import Picture, Pictures
from nexus.launch.service.relay import Relay

log = structlog.get_logger()
_REMEMBERED_BOOTS = 8


class Channel:
    """Syncs of all nodes. One that brings and finds nothing new reads nothing, makes nothing and waits for one hint."""

    def __init__(self, context: Context, inputs: Inputs, relay: Relay) -> None:
        self._context = context
        self._relay = relay
        self._pictures = Pictures(context, inputs)
        self._ended: dict[str, float] = {}  # task -> when its end was first reported, while its log is not whole

    async def sync(self, node_id: str, report: Report, since: int, wait_s: float) -> Desired:
        """Take what the node observes, and answer what should be: at once if that is not `since`, else when it changes.

        Raises NotFoundError if the node was removed, UsageError for a protocol that this server does not speak.
        """
        check_protocol(report.protocol)
        context = self._context
        arrived = context.clock.monotonic()
        deadline = arrived + min(max(wait_s, 0.0), context.policy.heartbeat_s)
        context.presence.heard(node_id, arrived)
        context.presence.spoken_of([one.task for one in report.tasks], arrived)
        ends = [one for one in report.tasks if _is_end(one)]
        topics = [node_topic(node_id), *(log_topic(one.task) for one in ends)]
        fresh = hinted = True
        while True:
            woken = context.hints.listen(*topics)
            try:
                if hinted:
                    picture = await context.retry(partial(self._take, node_id, report, ends, fresh=fresh))
                fresh = False
                await self._pictures.refresh(picture)
                desired = self._desired(node_id, picture, ends, arrived)  # from here on nothing is awaited
                left = deadline - context.clock.monotonic()
                acknowledged = frozenset(desired.acknowledged)
                if desired.version != since or acknowledged - picture.acknowledged or left <= 0:
                    picture.acknowledged = acknowledged
                    context.presence.renew([order.task for order in desired.orders], arrived)
                    return desired
                hinted = await context.hints.until(woken, left, *topics)
            finally:
                context.hints.drop(woken, *topics)

    async def holds(self, node_id: str, task_id: str, epoch: int) -> Task:
        """The task, if this lease of it is the node's: what guards logs, metrics and artifacts.

        Raises NotFoundError for no such task, FencedError for a lease that is over or another node's.
        """
        task = await self._context.records.get(TASKS, task_id)
        if task is None:
            raise NotFoundError(f"no such task: {task_id}", hint="It was removed; drop what belongs to it.")
        if task.node != node_id or task.epoch != epoch or task.state is TaskState.LOST:
            raise FencedError(
                f"the lease {epoch} of task {task_id} is over",
                hint="Kill the task and forget it: its work was given to somebody else.",
                state=str(task.state),
            )
        return task

    async def _take(self, node_id: str, report: Report, ends: list[TaskReport], *, fresh: bool) -> Picture:
        """Take a fresh report whole; of one that has waited, only ends whose logs may have come meanwhile.

        What else it says is old by now, and must not be set against what newer reports said.
        """
        node = await self._context.records.get(NODES, node_id)
        if node is None:
            raise NotFoundError("this node was removed", hint="Join again: nexus agent join URL TOKEN")
        if report.info.boot in node.earlier_boots:  # it knows nothing of what was begun since, and must not undo it
            raise FencedError(
                f"{node.name} has started anew since this was said",
                hint="If two machines use this node's identity, let one of them join under its own: nexus agent join",
            )
        picture = await self._pictures.of(node_id)
        now = self._context.clock.now()
        moved = await self._observed(picture, report.tasks if fresh else ends, now)
        events = [task_moved(task, now) for task in moved if task.state is not picture.tasks[task.id].state]
        after = node
        if fresh:
            if report.info.boot != node.boot:
                lost = self._orphaned(picture, report, moved, now)
                moved += lost
                events += [task_moved(task, now) for task in lost]
            after = self._returned(picture, node, report.info, now)
            events += [node_moved(after, now)] if after.state is not node.state else []
        await self._store(moved, node, after, events)
        if fresh:
            picture.info, picture.node = report.info, node
            picture.heard |= {one.task: one for one in report.tasks if one.task in picture.tasks}
        return picture

    async def _store(self, moved: list[Task], node: Node, after: Node, events: list[Event]) -> None:
        changes = [(TASKS, task) for task in moved]
        if after != node:
            await self._context.commit(*changes, (NODES, after), events=events)
        elif changes:
            await self._context.commit(*changes, events=events)

    async def _observed(self, picture: Picture, reports: Iterable[TaskReport], now: float) -> list[Task]:
        """The tasks that these reports change."""
        moved: list[Task] = []
        for one in reports:
            task = picture.tasks.get(one.task)
            if task is None or (picture.heard.get(one.task) == one and not _is_end(one)):
                continue
            seen = self._context.rules.observe(task, one, now)
            if seen is not None and await self._is_whole(one, seen):
                moved.append(seen)
        return moved

    def _returned(self, picture: Picture, node: Node, info: NodeInfo, now: float) -> Node:
        """The node as it is once it has said this of itself."""
        is_known = picture.node is node and picture.info == info
        return returned(node if is_known else described(node, info), now)

    def _orphaned(self, picture: Picture, report: Report, moved: list[Task], now: float) -> list[Task]:
        """The machine or the agent's home was made anew: what it does not name any more is gone."""
        named = {one.task for one in report.tasks} | {task.id for task in moved}
        detail = "its node started anew and does not know it"
        return [
            replace(task, state=TaskState.LOST, cause=Cause.NODE_LOST, detail=detail, ended=now, healthy=False)
            for task in picture.tasks.values()
            if task.id not in named
        ]

    async def _is_whole(self, report: TaskReport, seen: Task) -> bool:
        """Whether the observation may be shown: an end only when the task's whole log is here (or never will be)."""
        if not TASK_LIFE.is_final(seen.state):
            return True
        now = self._context.clock.monotonic()
        since = self._ended.setdefault(report.task, now)
        try:
            whole = await self._context.tracker.log_end(report.task) >= report.log_end
        except (NexusError, OSError) as error:  # one log's trouble must not cost the node's other tasks their leases
            log.warning("launch.log_unknown", task=report.task, error=str(error))
            whole = False
        if whole or now - since > self._context.policy.log_patience_s:
            self._ended.pop(report.task, None)
            return True
        return False

    def _desired(self, node_id: str, picture: Picture, ends: list[TaskReport], arrived: float) -> Desired:
        policy, presence = self._context.policy, self._context.presence
        orders = [
            order
            for order in picture.orders.values()
            if presence.is_spoken_of(order.task, arrived, policy.lease_s) and not presence.is_doomed(order.task)
        ]
        orders.sort(key=lambda order: (order.run, order.role, order.index, order.attempt))
        over = tuple(one.task for one in ends if one.task not in picture.tasks)
        for gone in over:
            self._ended.pop(gone, None)
        calls = self._relay.wanted(node_id)
        return Desired(
            version=picture.number(orders, calls, int(self._context.clock.now() * 1000)),
            heartbeat_s=policy.heartbeat_s,
            orders=tuple(orders),
            acknowledged=over,
            calls=calls,
        )


def check_protocol(protocol: int) -> None:
    """Refuse an agent that could misunderstand. Raises UsageError."""
    if protocol != PROTOCOL:
        older = "agent" if protocol < PROTOCOL else "server"
        raise UsageError(
            f"this server speaks protocol {PROTOCOL}, the agent speaks {protocol}",
            hint=f"Upgrade the {older}: pip install --upgrade nexus",
            protocol=PROTOCOL,
        )


def described(node: Node, info: NodeInfo) -> Node:
    """The node as its agent describes it now; its name stays the one that it joined with."""
    anew = node.boot not in {"", info.boot}
    return replace(
        node,
        earlier_boots=(*node.earlier_boots, node.boot)[-_REMEMBERED_BOOTS:] if anew else node.earlier_boots,
        provider=info.provider,
        capacity=info.capacity,
        labels=dict(info.labels),
        region=info.region,
        network=info.network,
        address=info.address,
        price=info.price,
        spot=info.spot,
        boot=info.boot,
        agent_version=info.agent_version,
        isolation=tuple(info.isolation),
        shell=info.shell,
    )


def returned(node: Node, now: float) -> Node:
    """A node that speaks is there."""
    state = NodeState.DRAINING if node.drain else NodeState.ONLINE
    return node if node.state is state else replace(node, state=state, seen=now)


def _is_end(report: TaskReport) -> bool:
    return TASK_LIFE.is_final(report.state)
