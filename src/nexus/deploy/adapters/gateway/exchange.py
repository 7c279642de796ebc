"""One request and its answer: from the key to the replica, from the first byte to the last."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import msgspec

from nexus.deploy.adapters.gateway import answers, wire
from nexus.deploy.adapters.gateway.upstream import Upstream
from nexus.deploy.core.headers import AnswerHead, RequestHead
from nexus.deploy.core.meters import Meter
from nexus.deploy.core.routing import OPENAI_PATHS, choose, may_send_again, split_target
from nexus.deploy.model import Replica, Route
from nexus.kernel.identity import Principal, PrincipalKind

if TYPE_CHECKING:
    from nexus.deploy.adapters.gateway.front import Front
    from nexus.deploy.adapters.gateway.server import Gateway

REPLAY_B = 256 * 1024  # a larger body is streamed, and cannot be sent again
MODEL_BODY_B = 16 * 1024 * 1024  # a body that is read for its `model` is held whole
FIRST_S = 60.0  # until the route is known, whose own bound then holds
ATTEMPTS = 4

_NOWHERE = Route(project="", endpoint="")


class _Asked(msgspec.Struct):
    model: str = ""


_ASKED = msgspec.json.Decoder(_Asked)


class Exchange:
    """A state machine without a task of its own: callbacks move it."""

    __slots__ = (
        "answered", "attempts", "began", "body_whole", "chunks", "done", "fresh", "front", "gateway", "head",
        "limit_b", "meter", "method", "needs_model", "out", "parts", "path", "project", "replica", "route", "size",
        "slot", "stamp", "started", "status", "streaming", "task", "tried", "upstream", "verdict",
    )  # fmt: skip

    def __init__(self, gateway: Gateway, front: Front, head: RequestHead) -> None:
        self.gateway = gateway
        self.front = front
        self.head = head
        self.method = head.method
        self.began = gateway.loop.time()
        self.slot = -1
        self.limit_b = MODEL_BODY_B
        self.parts: list[bytes] = []
        self.size = 0
        self.body_whole = False
        self.started = self.done = self.answered = False
        self.streaming = self.fresh = self.needs_model = self.chunks = False
        self.project = ""
        self.route = _NOWHERE
        self.replica: Replica | None = None
        self.meter: Meter | None = None
        self.upstream: Upstream | None = None
        self.task: asyncio.Task[None] | None = None
        self.tried: set[str] = set()
        self.attempts = 0
        self.status = 0
        self.verdict: tuple[int, str, str, str] | None = None  # told when the body has been read
        self.path = b""
        self.stamp = b""
        self.out: list[bytes] = []

    # ------------------------------------------------------------------ who, and where to

    def start(self) -> None:
        """The connection's turn has come to this request."""
        self.started = True
        self.gateway.wheel.add(self, FIRST_S)
        if self.head.target == b"/healthz":
            self._answer(200, answers.HEALTHY)
            return
        key = self.head.key
        principal = self.gateway.keys.known(key)
        if principal is not None:
            self._known(principal)
        elif key:
            self._spawn(self._ask(key))
        else:
            self.refuse(401, "denied", "no key was sent", "Send the header: Authorization: Bearer KEY.")

    async def _ask(self, key: str) -> None:
        principal = await self.gateway.keys.ask(key)
        if self.done:
            return
        if principal is None:
            self.refuse(401, "denied", "this key is not known, or was revoked", "Make one: nexus token create.")
        else:
            self._known(principal)

    def _known(self, principal: Principal) -> None:
        self.project = principal.project
        if principal.kind is PrincipalKind.NODE:
            self.refuse(403, "forbidden", "a node's key does not reach endpoints", "")
            return
        target = self.head.target.decode("latin-1")
        if target.startswith("/e/"):
            self._by_path(target)
            return
        path = target.partition("?")[0]
        if path in OPENAI_PATHS and self.method == b"POST":
            self.needs_model = True
            self.path = self.head.target
            self._go_on_sending()
            if self.body_whole and not self.done:
                self._by_model()
        elif path == "/v1/models" and self.method == b"GET":
            self._answer(200, answers.models(self.gateway.table.models(principal.project)))
        elif path == "/metrics" and self.method == b"GET":
            self._answer(200, self.gateway.metrics(principal.project), b"text/plain; version=0.0.4")
        else:
            self.refuse(404, "not_found", f"nothing is at {path}", "Endpoints are at /e/NAME/, models at /v1/.")

    def _by_path(self, target: str) -> None:
        found = split_target(target)
        route = self.gateway.table.find(self.project, found[0]) if found else None
        if found is None or route is None:
            name = found[0] if found else target
            self.refuse(404, "not_found", f"there is no endpoint {name}", "nexus endpoints lists those there are.")
            return
        self.path = found[1].encode("latin-1")
        self._admit(route)

    def _by_model(self) -> None:
        self.needs_model = False
        try:
            model = _ASKED.decode(b"".join(self.parts)).model
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.refuse(400, "usage", "the body is not JSON with a model", 'Send {"model": "NAME", ...}.')
            return
        table = self.gateway.table
        route = table.find(self.project, model)
        if route is None or not route.openai:
            names = ", ".join(r.endpoint for r in table.models(self.project)) or "none"
            self.refuse(404, "model_not_found", f"there is no model {model!r}", f"Models: {names}.")
            return
        self._admit(route)

    # ------------------------------------------------------------------ admission

    def _admit(self, route: Route) -> None:
        limits = route.limits
        if max(self.head.length, self.size) > limits.body_b:
            self.refuse(413, "limit", f"the body is larger than {limits.body_b} bytes", "")
            return
        if not route.replicas:
            self.refuse(503, "unavailable", f"no replica of {route.endpoint} is ready", "Try again in a moment.")
            return
        meter = self.gateway.meter(route)
        if meter.inflight >= limits.inflight * len(route.replicas):
            self.refuse(429, "limit", f"{route.endpoint} is busy: {meter.inflight} requests", "Try again in a moment.")
            meter.count(429, 0.0)
            return
        meter.inflight += 1
        self.route, self.meter, self.limit_b = route, meter, limits.body_b
        self.gateway.wheel.drop(self)
        self.gateway.wheel.add(self, max(0.0, limits.timeout_s - (self.gateway.loop.time() - self.began)))
        self._go_on_sending()
        if self.body_whole or self.size > REPLAY_B:
            self._send()

    def _go_on_sending(self) -> None:
        if self.head.expects and not self.body_whole:
            self.front.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.head.expects = False

    # ------------------------------------------------------------------ the request's body

    def body(self, data: bytes) -> None:
        """More of the request's body."""
        if self.done or self.verdict is not None:
            return
        self.size += len(data)
        if self.size > self.limit_b:
            self.refuse(413, "limit", f"the body is larger than {self.limit_b} bytes", "")
        elif self.streaming and self.upstream is not None:
            self.upstream.transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self.head.chunked else data)
        else:
            self.parts.append(data)
            if self.size > REPLAY_B and not self.needs_model:
                self.front.hold(True)
                if self.route is not _NOWHERE and self.replica is None:
                    self._send()

    def body_end(self) -> None:
        """The request is whole."""
        self.body_whole = True
        if self.done or not self.started:
            return
        if self.verdict is not None:
            self.refuse(*self.verdict)
        elif self.streaming and self.upstream is not None:
            if self.head.chunked:
                self.upstream.transport.write(b"0\r\n\r\n")
        elif self.needs_model:
            self._by_model()
        elif self.route is not _NOWHERE and self.replica is None:
            self._send()

    def upstream_full(self, *, full: bool) -> None:
        """The replica takes the body more slowly than the client sends it."""
        self.front.hold(full)

    # ------------------------------------------------------------------ to a replica

    def _send(self) -> None:
        """Choose a replica, and a connection to it."""
        route = self._route_now()
        gateway = self.gateway
        gateway.turn += 1
        replicas, load = route.replicas, gateway.load
        replica = None
        if gateway.spared or self.tried:
            replica = choose(replicas, load, gateway.spared_now() | self.tried, gateway.turn)
        if replica is None:
            replica = choose(replicas, load, self.tried, gateway.turn)
        if replica is None:
            self.refuse(503, "unavailable", f"no replica of {route.endpoint} answers", "Try again in a moment.")
            return
        self.replica = replica
        self.stamp = wire.stamp(replica)
        load[replica.id] = load.get(replica.id, 0) + 1
        upstream = None if self.fresh else gateway.pool.take((replica.host, replica.port))
        if upstream is None:
            self._spawn(self._connect(replica))
        else:
            self._go(upstream)

    def _route_now(self) -> Route:
        return self.gateway.table.find(self.route.project, self.route.endpoint) or self.route

    async def _connect(self, replica: Replica) -> None:
        try:
            upstream = await self.gateway.pool.connect((replica.host, replica.port))
        except (OSError, TimeoutError):
            if not self.done:
                self._unload()
                self.gateway.spare(replica.id)
                self._again(replica, sent=False)
            return
        if self.done:
            self.gateway.pool.release(upstream)
        else:
            self.gateway.spared.pop(replica.id, None)
            self._go(upstream)

    def _go(self, upstream: Upstream) -> None:
        self.upstream = upstream
        head = self.head
        if not head.request_id:
            head.request_id = self.gateway.new_request_id()
            head.lines += b"x-request-id: %b\r\n" % head.request_id
        lines = wire.request(head, self.path, upstream.address, self.front.peer)
        if self.body_whole:
            lines += wire.whole_body(head, self.parts, self.size)
        else:
            self._begin_streaming(lines)
        upstream.begin(self, b"".join(lines))

    def _begin_streaming(self, lines: list[bytes]) -> None:
        self.streaming = True
        if self.head.chunked:
            held = b"".join(self.parts)
            lines += [b"transfer-encoding: chunked\r\n\r\n", b"%x\r\n%b\r\n" % (len(held), held)]
        else:
            lines += [b"content-length: %d\r\n\r\n" % self.head.length, *self.parts]
        self.parts = []
        self.front.hold(False)

    def _again(self, replica: Replica, *, sent: bool) -> None:
        """The connection to `replica` failed: another one, or the end."""
        route = self._route_now()
        method = self.method.decode("latin-1")
        self.attempts += 1
        replayable = not self.streaming and self.attempts < ATTEMPTS
        if not (replayable and may_send_again(method, pure=route.pure, answered=False, sent=sent)):
            self.refuse(502, "unavailable", f"a replica of {route.endpoint} ended before it answered", "Send it again.")
            return
        if self.meter is not None:
            self.meter.retries += 1
        self.replica = self.upstream = None
        self.fresh = True
        if not sent:
            self.tried.add(replica.id)
        self._send()

    # ------------------------------------------------------------------ the answer

    def answer_begins(self, status: int, head: AnswerHead) -> None:
        """A replica's answer's head has come."""
        self.answered = True
        self.status = status
        lines = wire.answer(status, head)
        if head.length is None and status not in {204, 304} and self.method != b"HEAD":
            if self.head.old:
                self.front.close_after = True
            else:
                self.chunks = True
                lines.append(b"transfer-encoding: chunked\r\n")
        if self.head.close or self.front.close_after or not self.body_whole:
            self.front.close_after = True
            lines.append(b"connection: close\r\n")
        lines.append(b"x-request-id: %b\r\n%b\r\n" % (self.head.request_id, self.stamp))
        self.out.extend(lines)

    def answer_body(self, data: bytes) -> None:
        """A part of the answer's body."""
        if self.chunks:
            self.out += (b"%x\r\n" % len(data), data, b"\r\n")
        else:
            self.out.append(data)

    def answer_goes_on(self) -> None:
        """Everything that came at once was read: pass it on."""
        if self.out:
            self.front.write(b"".join(self.out))
            self.out.clear()

    def answer_ends(self) -> None:
        """The answer is whole."""
        if self.chunks:
            self.out.append(b"0\r\n\r\n")
        self.answer_goes_on()
        self.upstream = None
        self._finish(self.status)

    def answer_broke(self, upstream: Upstream) -> None:
        """The replica's connection ended within the answer, or before it."""
        replica, self.upstream = self.replica, None
        self._unload()
        if self.answered:  # half an answer went out: the client must see that it is not whole
            self._finish(502, abort=True)
            return
        if replica is not None and not upstream.reused:
            self.gateway.spare(replica.id)
            self.tried.add(replica.id)
        if upstream.touched:
            self.refuse(502, "unavailable", "the replica's answer cannot be read", "See its log: nexus logs.")
        elif replica is not None:
            self._again(replica, sent=True)

    # ------------------------------------------------------------------ the end

    def expired(self) -> None:
        """The deadline has passed (called by the wheel)."""
        if self.answered:
            self._drop_upstream()
            self._finish(504, abort=True)
        else:
            waited = self.gateway.loop.time() - self.began
            self.refuse(504, "unavailable", f"no answer within {waited:.0f} s", "Raise deploy.timeout in the job file.")

    def gone(self) -> None:
        """The client went away."""
        if not self.done:
            self._drop_upstream()
            self._finish(499, abort=True)

    def refuse(self, status: int, code: str, message: str, hint: str) -> None:
        """Answer with an error of our own; only before an answer has begun.

        A short body that is still to come is read first, so that the connection can be kept.
        """
        self._drop_upstream()
        short = 0 < self.head.length <= REPLAY_B and not self.head.expects
        if short and not self.body_whole and status not in {413, 500, 504}:
            self.verdict, self.needs_model, self.parts = (status, code, message, hint), False, []
            return
        body = answers.error(status, code, message, hint)
        self._answer(status, body, retry=status in {429, 503})

    def _answer(self, status: int, body: bytes, kind: bytes = b"application/json", *, retry: bool = False) -> None:
        if not self.body_whole or self.head.close:
            self.front.close_after = True
        body = body if self.method != b"HEAD" else b""
        self.front.write(wire.own_answer(status, body, kind, retry=retry, close=self.front.close_after))
        self._finish(status)

    def _drop_upstream(self) -> None:
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.abandon()

    def _unload(self) -> None:
        """The replica has nothing of this request any more."""
        replica, self.replica = self.replica, None
        if replica is not None:
            load = self.gateway.load
            left = load[replica.id] - 1
            if left:
                load[replica.id] = left
            else:
                del load[replica.id]

    def _finish(self, status: int, *, abort: bool = False) -> None:
        self.done = True
        self._unload()
        self.gateway.wheel.drop(self)
        self.parts = []
        if self.meter is not None:
            self.meter.inflight -= 1
            self.meter.count(status, self.gateway.loop.time() - self.began)
        self.front.finished(self, abort=abort)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.task = self.gateway.loop.create_task(self._guarded(work))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """A bug or a dead database answers this request, and no other, with an error."""
        try:
            await work
        except Exception:
            self.gateway.log.exception("gateway.request")
            if not self.done:
                self.refuse(500, "nexus.error", "the gateway failed", "This is a bug in Nexus; its log has the trace.")
