"""Calls: byte streams to tasks and nodes that nobody can dial, passed on between two connections that came in.

A call lives in this server's memory: it ends with the server. Nothing is stored of it but the event that says who
reached what. The bytes are never looked into, and never pile up: a message is taken from one side when the other has
taken the one before.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import NoReturn

from nexus.kernel.errors import ConflictError, ForbiddenError, LimitError, NexusError, NotFoundError, UnavailableError
from nexus.kernel.identity import Principal, PrincipalKind, Role
from nexus.kernel.records import Value
from nexus.launch.calls import SILENCE_S, Call, CallKind, CallRequest, Part, failed_message, message
from nexus.launch.core.events import node_called, run_called
from nexus.launch.core.reaching import check_request, port_of, reached
from nexus.launch.model import NODES, TASK_LIFE, TASKS, Node, NodeState, Run, Task, TaskState
from nexus.launch.ports import Stream
from nexus.launch.protocol import CallOrder
from nexus.launch.service.context import EVERYTHING, Context, node_topic
from nexus.launch.service.runs import find_run

_LAST = frozenset({Part.EXIT, Part.FAILED, Part.OUT_END})  # with these, the far side's end is no surprise
_SAID_AGAIN_S = 3600.0  # a port's connections are many: one event tells of all within this time


@dataclass(eq=False)
class _Line:
    """One call on its way: what the agent is told, and the two sides as they come."""

    call: Call
    order: CallOrder
    project: str
    actor: str
    far: asyncio.Future[Stream]
    claimed: bool = False  # the caller's side has come
    answered: bool = False  # the node's
    touched: float = 0.0  # when the last byte that was no beat passed
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Relay:
    """Every call of this server."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lines: dict[str, _Line] = {}
        self._told: dict[tuple[str, str, int], float] = {}

    def wanted(self, node_id: str) -> tuple[CallOrder, ...]:
        """The calls that a node's agent has not dialled yet: part of what it is told."""
        lines = self._lines.values()
        return tuple(line.order for line in lines if line.call.node == node_id and not line.answered)

    async def open(self, principal: Principal, reference: str, request: CallRequest) -> Call:
        """A call to a task of a run. A run's own token may reach the ports of that run's tasks, and nothing else.

        Raises NotFoundError, UsageError, ConflictError when no such task runs, UnavailableError when its node is
        silent, LimitError when the project has too many calls.
        """
        check_request(request)
        principal.need(Role.VIEWER)
        run = await find_run(self._context.records, principal.project, reference)
        is_own = principal.kind is PrincipalKind.RUN and principal.subject == run.id
        if not (is_own and request.kind is CallKind.PORT):
            principal.need(Role.MEMBER)
        tasks = await self._context.records.find(TASKS, {"run": run.id}, limit=EVERYTHING)
        task = reached(run, tasks, request)
        line = await self._to_task(run, task, request, principal.subject)
        await self._tell(run, line, request)
        return line.call

    async def open_node(self, principal: Principal, reference: str, request: CallRequest) -> Call:
        """A call to a machine itself, if its owner has allowed that. Raises as `open` does, and ForbiddenError."""
        check_request(request)
        principal.need(Role.ADMIN)
        node = await self._node(principal.project, reference)
        if not node.shell or request.kind is not CallKind.EXEC:
            raise ForbiddenError(
                f"the owner of {node.name} has not allowed a shell on it",
                hint="On that machine: nexus agent join --allow-shell URL TOKEN",
            )
        order = _order(self._context.new_id("call"), request)
        call = Call(id=order.id, kind=request.kind, node=node.id)
        line = self._add(node, call, order, node.project, principal.subject)
        now = self._context.clock.now()
        await self._context.commit(events=[node_called(node, request, now, principal.subject)])
        self._wake(line)
        return call

    async def connect(self, task_id: str, port: str) -> Stream:
        """The near side of a port's call, for other parts of this server (a gateway, a round of federated learning).

        Whoever asks has checked that it may. Raises as `open` does.
        """
        task = await self._context.records.get(TASKS, task_id)
        run = await find_run(self._context.records, task.project, task.run) if task is not None else None
        if task is None or run is None:
            raise NotFoundError(f"no such task: {task_id}")
        if task.state is not TaskState.RUNNING:
            raise ConflictError(f"the task {task.role}.{task.index} of {run.name} does not run")
        line = await self._to_task(run, task, CallRequest(kind=CallKind.PORT, port=port), "nexus")
        line.claimed = True
        self._wake(line)
        try:
            return _Near(await self._answered(line), line, self)
        except BaseException:
            self._end(line)
            raise

    async def attach(self, principal: Principal, call_id: str, near: Stream) -> None:
        """The caller's side is here: pass on what both say, until either ends. Raises NotFoundError."""
        line = self._lines.get(call_id)
        if line is None or line.claimed or (line.project, line.actor) != (principal.project, principal.subject):
            self._unknown(call_id)
        line.claimed = True
        why = ""
        try:
            await near.send(message(Part.BEAT))
            far = await self._answered(line)
            try:
                why = await self._splice(line, near, far)
            finally:
                await far.close(why)
        except NexusError as error:
            why = error.message
            await _say_failed(near, error)
        finally:
            self._end(line)
            await near.close(why)

    async def answer(self, node_id: str, call_id: str, far: Stream) -> None:
        """The node's side is here; returns when the call is over. Raises NotFoundError."""
        line = self._lines.get(call_id)
        if line is None or line.call.node != node_id or line.answered:
            self._unknown(call_id)
        line.answered = True
        try:
            await far.send(message(Part.BEAT))  # by which it knows that it has come through
            if not line.far.done():
                line.far.set_result(far)
            await line.over.wait()
        finally:
            self._end(line)

    # ------------------------------------------------------------------ setting up

    async def _to_task(self, run: Run, task: Task, request: CallRequest, actor: str) -> _Line:
        node = await self._context.records.get(NODES, task.node)  # its own project's, or one that is shared
        if node is None:
            raise NotFoundError(f"no such node: {task.node}", hint="`nexus nodes` lists them.")
        port = port_of(run, task, request.port) if request.kind is CallKind.PORT else 0
        order = _order(self._context.new_id("call"), request, task, port)
        call = Call(
            id=order.id,
            kind=request.kind,
            node=node.id,
            run=run.id,
            task=task.id,
            role=task.role,
            index=task.index,
            port=port,
        )
        return self._add(node, call, order, task.project, actor)

    async def _node(self, project: str, reference: str) -> Node:
        where: dict[str, Value] = {"project": project, "name": reference}
        node = await self._context.records.get(NODES, reference)
        found = [node] if node is not None else await self._context.records.find(NODES, where, limit=1)
        if not found or found[0].project != project:
            raise NotFoundError(f"no such node: {reference}", hint="`nexus nodes` lists them.")
        return found[0]

    def _add(self, node: Node, call: Call, order: CallOrder, project: str, actor: str) -> _Line:
        if node.state in {NodeState.UNREACHABLE, NodeState.GONE}:
            raise UnavailableError(
                f"the node {node.name} is {node.state}: its agent has not been heard of for a while",
                hint="The task may still run there. Try again when `nexus nodes` shows it online.",
            )
        if Counter(line.project for line in self._lines.values())[project] >= self._context.policy.calls_at_once:
            raise LimitError(
                f"the project has {self._context.policy.calls_at_once} calls at once already",
                hint="Close some of the terminals and forwarded ports.",
            )
        loop = asyncio.get_running_loop()
        line = _Line(call, order, project, actor, loop.create_future())
        self._lines[call.id] = line
        loop.call_later(2 * self._context.policy.call_wait_s, self._expire, line)
        return line

    def _wake(self, line: _Line) -> None:
        self._context.hints.hint(node_topic(line.call.node))

    async def _tell(self, run: Run, line: _Line, request: CallRequest) -> None:
        """Leave a trace of who reached what; then wake the agent."""
        now, call = self._context.clock.now(), line.call
        key = (line.actor, call.task, call.port)
        if request.kind is CallKind.EXEC or now - self._told.get(key, -_SAID_AGAIN_S) >= _SAID_AGAIN_S:
            self._told = {told: at for told, at in self._told.items() if now - at < _SAID_AGAIN_S}
            if request.kind is CallKind.PORT:
                self._told[key] = now
            await self._context.commit(events=[run_called(run, call, request, now, line.actor)])
        self._wake(line)

    def _expire(self, line: _Line) -> None:
        """Nobody came to take it."""
        if not line.claimed:
            self._end(line)

    def _end(self, line: _Line) -> None:
        self._lines.pop(line.call.id, None)
        line.over.set()
        if not line.far.done():
            line.far.cancel()

    def _unknown(self, call_id: str) -> NoReturn:
        raise NotFoundError(
            f"no such call: {call_id}", hint="A call works once, within some seconds, for who asked for it. Ask again."
        )

    # ------------------------------------------------------------------ the line itself

    async def _answered(self, line: _Line) -> Stream:
        """The node's side, once its agent has dialled. Raises UnavailableError."""
        wait_s = self._context.policy.call_wait_s
        await asyncio.wait([line.far], timeout=wait_s)
        if line.far.done() and not line.far.cancelled():
            return line.far.result()
        task = await self._context.records.get(TASKS, line.call.task) if line.call.task else None
        if task is not None and TASK_LIFE.is_final(task.state):
            raise ConflictError("the task has ended meanwhile", hint=f"Its log: nexus logs {line.call.run}")
        raise UnavailableError(
            f"the node's agent did not answer within {wait_s:g} s",
            hint="`nexus nodes` shows whether it is online; agents older than 0.2 cannot take calls.",
        )

    async def _splice(self, line: _Line, near: Stream, far: Stream) -> str:
        """Pass messages on both ways until either side ends; why it did, in words. Raises UnavailableError."""
        line.touched = self._context.clock.monotonic()
        last: list[int] = []
        up = asyncio.ensure_future(self._pump(line, near, far, "the caller", []))
        down = asyncio.ensure_future(self._pump(line, far, near, "the node's agent", last))
        try:
            await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
            if up.done() and up.result() and not down.done():
                return "the caller has hung up"
            if not await down:
                return "the caller has hung up"
        finally:
            for pump in (up, down):
                pump.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
        if not last:
            raise UnavailableError(
                "the call broke off: the node's agent ended, or its network did",
                hint=f"The task may go on without it: nexus show {line.call.run}" if line.call.run else "",
            )
        return "the call is over"

    async def _pump(self, line: _Line, source: Stream, sink: Stream, who: str, last: list[int]) -> bool:
        """One direction: True at the source's end, False once the sink is gone (what it said last may be on its way).

        Raises UnavailableError when nothing is heard for too long.
        """
        clock, idle_s = self._context.clock, self._context.policy.call_idle_s
        while True:
            try:
                async with asyncio.timeout(SILENCE_S):
                    said = await source.receive()
            except TimeoutError as error:
                raise UnavailableError(f"the call was ended: {who} has been silent for {SILENCE_S:g} s") from error
            if said is None:
                return True
            kind = said[0] if said else -1
            if kind != Part.BEAT:
                line.touched = clock.monotonic()
            elif clock.monotonic() - line.touched > idle_s:
                raise UnavailableError(f"the call was ended: nothing was said for {idle_s / 3600:g} h")
            if kind in _LAST:
                last.append(kind)
            try:
                await sink.send(said)
            except UnavailableError:
                return False


@dataclass
class _Near:
    """What `connect` gives: the node's side, whose closing ends the call."""

    far: Stream
    line: _Line
    relay: Relay

    async def send(self, message: bytes) -> None:
        await self.far.send(message)

    async def receive(self) -> bytes | None:
        return await self.far.receive()

    async def close(self, why: str = "") -> None:
        await self.far.close(why)
        self.relay._end(self.line)  # noqa: SLF001 (its other half)


def _order(call_id: str, request: CallRequest, task: Task | None = None, port: int = 0) -> CallOrder:
    return CallOrder(
        id=call_id,
        kind=request.kind,
        task=task.id if task else "",
        epoch=task.epoch if task else 0,
        argv=request.argv,
        tty=request.tty,
        rows=request.rows,
        columns=request.columns,
        term=request.term,
        port=port,
    )


async def _say_failed(near: Stream, error: NexusError) -> None:
    try:
        await near.send(failed_message(error))
    except UnavailableError:
        return
