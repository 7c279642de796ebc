"""The server's side of the agents' protocol: what nodes observe goes in, what should be comes out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import msgspec
import structlog

from nexus.kernel.errors import FencedError, NexusError, NotFoundError, UsageError
from nexus.kernel.events import Event
from nexus.launch.core.events import node_moved, task_moved
from nexus.launch.core.orders import order_of, without_secrets
from nexus.launch.model import NODES, RUNS, TASK_LIFE, TASKS, Cause, Node, NodeState, Task, TaskState
from nexus.launch.ports import log_topic
from nexus.launch.protocol import PROTOCOL, CallOrder, Desired, NodeInfo, Report, TaskOrder, TaskReport
from nexus.launch.service.context import EVERYTHING, Context, node_topic
from nexus.launch.service.inputs import Inputs
from nexus.launch.service.relay import Relay

log = structlog.get_logger()
_LOG_POLL_S = 0.25  # a hint usually says that a log has arrived; this is for a tracker in another process
_REMEMBERED_BOOTS = 8
_BEFORE_START = frozenset({TaskState.LEASED, TaskState.PREPARING, TaskState.READY})


@dataclass(frozen=True, slots=True)
class _Picture:
    """What a node should be told, and which ended tasks still wait for their logs."""

    desired: Desired
    tasks: tuple[str, ...]
    waiting: tuple[str, ...]


class Channel:
    """Syncs of all nodes."""

    def __init__(self, context: Context, inputs: Inputs, relay: Relay) -> None:
        self._context = context
        self._inputs = inputs
        self._relay = relay
        self._ended: dict[str, float] = {}  # task -> when its end was first reported, while its log is not whole
        self._versions: dict[str, tuple[bytes, int]] = {}  # node -> what it was last told, and that answer's version
        self._told: dict[str, frozenset[str]] = {}  # node -> the ends that the last answer acknowledged

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
        fresh = True
        while True:
            topics = [node_topic(node_id), *(log_topic(one.task) for one in report.tasks if _is_end(one))]
            woken = context.hints.listen(*topics)
            try:
                picture = await context.retry(partial(self._round, node_id, report, arrived, fresh=fresh))
                fresh = False
                left = deadline - context.clock.monotonic()
                acknowledged = frozenset(picture.desired.acknowledged)
                if picture.desired.version != since or acknowledged - self._told.get(node_id, frozenset()) or left <= 0:
                    if self._renew(picture, arrived):
                        self._told[node_id] = acknowledged
                        return picture.desired
                    continue
                await context.hints.until(woken, min(left, _LOG_POLL_S) if picture.waiting else left, *topics)
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

    async def _round(self, node_id: str, report: Report, arrived: float, *, fresh: bool) -> _Picture:
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
        tasks = {task.id: task for task in await self._live(node_id)}
        for one in report.tasks:  # those that are over already, to be acknowledged
            if one.task not in tasks:
                task = await self._context.records.get(TASKS, one.task)
                if task is not None and task.node == node_id:
                    tasks[task.id] = task
        observed = await self._observe(node, report, tasks, fresh=fresh)
        return await self._picture(node_id, report, {**tasks, **observed}, arrived)

    async def _live(self, node_id: str) -> list[Task]:
        states = [str(state) for state in TASK_LIFE.live]
        return await self._context.records.find(TASKS, {"node": node_id, "state": states}, limit=EVERYTHING)

    async def _observe(self, node: Node, report: Report, tasks: dict[str, Task], *, fresh: bool) -> dict[str, Task]:
        """Store what the report changes: the node's facts, its return, its tasks' moves. Raises ConflictError."""
        now = self._context.clock.now()
        moved: dict[str, Task] = {}
        events: list[Event] = []
        for one in report.tasks if fresh else filter(_is_end, report.tasks):
            task = tasks.get(one.task)
            seen = self._context.rules.observe(task, one, now) if task is not None else None
            if task is None or seen is None or not await self._is_whole(one, seen):
                continue
            moved[task.id] = seen
            if seen.state is not task.state:
                events.append(task_moved(seen, now))
        if fresh and report.info.boot != node.boot:
            lost = self._orphaned(report, {**tasks, **moved}, now)
            moved |= lost
            events += [task_moved(task, now) for task in lost.values()]
        after = returned(described(node, report.info), now) if fresh else node
        if after.state is not node.state:
            events.append(node_moved(after, now))
        changes = [(TASKS, task) for task in moved.values()]
        if after != node:
            await self._context.commit(*changes, (NODES, after), events=events)
        elif changes:
            await self._context.commit(*changes, events=events)
        return {task_id: replace(task, version=task.version + 1) for task_id, task in moved.items()}

    def _orphaned(self, report: Report, tasks: dict[str, Task], now: float) -> dict[str, Task]:
        """The machine or the agent's home was made anew: what it does not name any more is gone."""
        named = {one.task for one in report.tasks}
        detail = "its node started anew and does not know it"
        return {
            task.id: replace(task, state=TaskState.LOST, cause=Cause.NODE_LOST, detail=detail, ended=now, healthy=False)
            for task in tasks.values()
            if task.id not in named and not TASK_LIFE.is_final(task.state)
        }

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

    async def _picture(self, node_id: str, report: Report, tasks: dict[str, Task], arrived: float) -> _Picture:
        live = [task for task in tasks.values() if not TASK_LIFE.is_final(task.state)]
        forget_s = self._context.policy.lease_s
        presence = self._context.presence
        kept = [
            task
            for task in live
            if presence.is_spoken_of(task.id, arrived, forget_s) and not presence.is_doomed(task.id)
        ]
        orders = await self._orders(kept)
        alive = {task.id for task in live}
        over = tuple(one.task for one in report.tasks if _is_end(one) and one.task not in alive)
        waiting = tuple(one.task for one in report.tasks if _is_end(one) and one.task in alive)
        for gone in over:
            self._ended.pop(gone, None)
        calls = self._relay.wanted(node_id)
        desired = Desired(
            version=self._version(node_id, orders, calls),
            heartbeat_s=self._context.policy.heartbeat_s,
            orders=tuple(orders),
            acknowledged=over,
            calls=calls,
        )
        return _Picture(desired, tuple(order.task for order in orders), waiting)

    async def _orders(self, tasks: Sequence[Task]) -> list[TaskOrder]:
        records = self._context.records
        orders: list[TaskOrder] = []
        for run_id in sorted({task.run for task in tasks}):
            run = await records.get(RUNS, run_id)
            if run is None:
                continue
            present = {"run": run_id, "state": [str(state) for state in TASK_LIFE.live]}  # ended attempts may be many
            mates = await records.find(TASKS, present, limit=EVERYTHING)
            mine = [task for task in tasks if task.run == run_id]
            try:
                inputs, secrets = await self._inputs.digests(run), await self._inputs.secrets(run)
            except NexusError:
                # What the run names is gone. Tasks that started have theirs already; the others' leases run out.
                mine, inputs, secrets = [task for task in mine if task.state not in _BEFORE_START], {}, {}
            for task in sorted(mine, key=lambda task: (task.role, task.index, task.attempt)):
                starts = task.state in _BEFORE_START  # a process that runs has its secrets; its agent lets go of them
                token, given = (await self._inputs.token(run), secrets) if starts else ("", {})
                orders.append(
                    order_of(run, task, mates, self._context.policy, token=token, inputs=inputs, secrets=given)
                )
        return orders

    def _version(self, node_id: str, orders: Sequence[TaskOrder], calls: Sequence[CallOrder]) -> int:
        """A number that grows when these change. It starts at the time, so that a restarted server's is higher."""
        shown = [*(without_secrets(order) for order in orders), *calls]
        digest = hashlib.sha256(msgspec.json.encode(shown, order="deterministic")).digest()
        last, version = self._versions.get(node_id, (b"", 0))
        if digest != last:
            version = max(version + 1, int(self._context.clock.now() * 1000))
            self._versions[node_id] = (digest, version)
        return version

    def _renew(self, picture: _Picture, arrived: float) -> bool:
        """Renew what the answer orders; False when one was declared lost meanwhile, so the answer is stale."""
        presence = self._context.presence
        if any(presence.is_doomed(task) for task in picture.tasks):
            return False
        for task in picture.tasks:
            presence.renew(task, arrived)
        return True


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
